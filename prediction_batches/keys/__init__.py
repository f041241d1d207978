"""The keys of a batch's rows: which of them several rows have."""
