"""The files of a batch: JSON parts, and the data files of its Delta table."""
