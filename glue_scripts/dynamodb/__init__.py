"""A batch's rows in the online table: written, acknowledged, read back."""
