"""Alarms, the dashboard and log groups."""
