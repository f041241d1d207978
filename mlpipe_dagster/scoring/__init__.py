"""Features and predictions: SageMaker jobs that score one partition of a model."""
