"""The sources of features: declared formats, and the project's readers."""
