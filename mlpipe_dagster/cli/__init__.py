"""The `mlpipe` command."""
