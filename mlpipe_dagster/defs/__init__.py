"""The models: one folder with a `defs.yaml` each."""

# Dagster 1.13 fails on a folder without any definition, unless it is a package.
