"""A batch as a score job reads and writes it."""
