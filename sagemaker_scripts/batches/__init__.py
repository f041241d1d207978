"""Reading and checking batches in a score job."""
