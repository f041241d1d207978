"""Handlers that do the same as the API, built with widely used libraries for comparison."""
