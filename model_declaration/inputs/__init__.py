"""What a model is made of: sources, and features and trained models that the project does not make itself."""
