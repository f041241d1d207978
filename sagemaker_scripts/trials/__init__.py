"""Tries a model on sample data: runs its functions like its jobs do, and delivers nothing."""
