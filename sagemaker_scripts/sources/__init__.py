"""Data that features are made of: declared formats, and the readers of a project."""
