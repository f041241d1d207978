"""The Glue job that loads a batch of predictions into DynamoDB and Snowflake."""
