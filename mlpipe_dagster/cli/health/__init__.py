"""`mlpipe doctor`: finds faults of a deployment or a model, with remedies."""
