"""Accuracy: what became of a published batch, metric by metric and slice by slice."""
