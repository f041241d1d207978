"""Cleaning of rows between the files and the stores."""
