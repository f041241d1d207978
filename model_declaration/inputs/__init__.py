"""A model's inputs: sources, and features and trained models that are made elsewhere."""
