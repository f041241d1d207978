"""Storage of data: bucket, tables, queues, load job, pipelines and warehouse access."""
