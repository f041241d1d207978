"""Definitions of the provisioned resources, as data."""
