"""A batch's files on S3: read, verified and surveyed before the first row is written."""
