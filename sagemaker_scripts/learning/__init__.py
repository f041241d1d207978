"""Trained models: outcomes, evaluation, the artifact."""
