"""What Dagster runs in."""
