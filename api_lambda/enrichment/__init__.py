"""Adds third-party facts to a prediction within a time budget."""
