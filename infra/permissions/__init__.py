"""Permissions: every role and its statements."""
