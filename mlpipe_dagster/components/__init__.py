"""The components that a `defs.yaml` may name."""
