"""Dagster's network, database, tasks and services."""
