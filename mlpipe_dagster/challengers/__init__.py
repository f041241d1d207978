"""Challengers: versions that score the same batches as the champion for comparison, and are never served."""
