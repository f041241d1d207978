"""The commands for model versions: `mlpipe models`, `retrain`, `promote`, `demote` and `challenge`."""
