"""What runs inside SageMaker containers: prepares features, trains models and scores batches."""
