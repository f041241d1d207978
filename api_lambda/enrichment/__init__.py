"""Facts of third parties beside a prediction, within a time budget."""
