"""Delay on arrival of each scheduled flight of a day."""
