"""The local stack: AWS, Snowflake and a third-party API on a laptop, behind their real protocols."""
