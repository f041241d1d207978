"""Serving regions that follow the home region."""
