"""`mlpipe models`, `retrain`, `promote`, `demote`, `challenge`: the versions of a model."""
