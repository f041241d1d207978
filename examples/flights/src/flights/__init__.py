"""Departure delays of flights and congestion at airports: the example of a project."""
