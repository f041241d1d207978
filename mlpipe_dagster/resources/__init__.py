"""Dagster resources: access of runs and sensors to AWS and Snowflake."""
