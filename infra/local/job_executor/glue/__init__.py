"""Glue's API and its job runs."""
