"""The trained model: a SageMaker job that learns from prepared features."""
