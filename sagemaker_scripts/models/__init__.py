"""One package per model with its user's part: the pure functions `features`, `train` and `predict`."""
