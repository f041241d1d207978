"""`mlpipe models`, `retrain`, `promote`, `demote`, `challenge`, `register`: the versions of a model."""
