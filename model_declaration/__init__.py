"""Reads a model's `defs.yaml` as typed, validated data.

Dagster, the infrastructure and the command line all read declarations with it. It imports neither Dagster nor
AWS libraries.
"""
