"""Delay on departure by airport and hour of a day."""
