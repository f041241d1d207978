"""Finds and registers done files, and requests one load for each."""
