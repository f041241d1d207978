"""The scripts that run in SageMaker containers: they prepare features, train models and score batches."""
