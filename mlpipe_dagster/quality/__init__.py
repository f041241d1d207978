"""A model's quality rules for its batches, and drift from the live batch."""
