"""Prepared features: made from the raw data known at a time, and stored on S3."""
