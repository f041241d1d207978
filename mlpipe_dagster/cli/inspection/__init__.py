"""Commands that show batches: what they hold, where they came from, how they differ."""
