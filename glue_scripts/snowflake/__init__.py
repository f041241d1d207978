"""A batch's rows in Snowflake: staged, counted and moved in one transaction."""
