"""A row in DynamoDB, Delta and Snowflake, and what the API needs to serve it."""
