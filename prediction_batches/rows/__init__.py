"""Rows as columns: reads a program's tables and encodes them column by column."""
