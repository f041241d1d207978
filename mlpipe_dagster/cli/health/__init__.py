"""`mlpipe doctor`: what is wrong with a deployment or a model, and what to do."""
