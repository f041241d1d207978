"""Prepared features: made of raw data as it was known, and kept on S3."""
