"""The components that a `defs.yaml` can use."""
