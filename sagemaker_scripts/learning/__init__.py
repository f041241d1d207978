"""Trained models: their artifacts, outcomes and evaluation."""
