"""The assets of one model: what each materialization does."""
