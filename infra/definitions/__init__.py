"""What is provisioned, as data."""
