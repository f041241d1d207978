"""A model with three hundred columns."""
