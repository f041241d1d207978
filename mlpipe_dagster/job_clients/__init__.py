"""Dagster Pipes clients for SageMaker and Glue jobs."""
