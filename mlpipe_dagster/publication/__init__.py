"""What readers see: publication, the live view in Snowflake, the API, and batches that must not expire."""
