"""Rows: their schema, how a line is validated, and how a row is written."""
