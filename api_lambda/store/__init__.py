"""What is live and what it says: publications and predictions in DynamoDB."""
