"""What the definitions of every model share: names, ops, partitions, lineage, and what failed in a tick."""
