"""The names of models, partitions, batches, S3 keys and every resource of a deployment."""
