"""Handlers that do what the API does, made of what others would take."""
