"""The local stack as a whole: up, down, status, Dagster and the environment file."""
