"""The common part of all models' definitions: names, ops, partitions, lineage and errors of a tick."""
