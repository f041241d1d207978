"""AWS and Snowflake as the local stack serves them, as unkind as the real ones."""
