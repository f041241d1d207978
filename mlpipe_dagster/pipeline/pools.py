"""Pools of what steps use outside of Dagster, so that a backfill does not crowd a service.

`dagster instance concurrency set <pool> <limit>` limits one of them, the instance's file all others.
"""

GLUE_POOL = "glue"
SNOWFLAKE_POOL = "snowflake"
SAGEMAKER_POOL = "sagemaker"
