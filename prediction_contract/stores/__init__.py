"""Rows in DynamoDB, Delta and Snowflake, and the data that the API needs to serve them."""
