"""Reads publications and predictions from DynamoDB."""
