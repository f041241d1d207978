"""A model's own rules for its batches, and how far values moved since the live one."""
