"""SageMaker's API, processing and training jobs."""
