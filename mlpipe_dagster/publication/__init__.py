"""Publication: the live view in Snowflake, the API, and the renewal of batches before they expire."""
