"""Commands that show batches: their content, their origin and their differences."""
