"""Jobs of all kinds: records, processes and output."""
