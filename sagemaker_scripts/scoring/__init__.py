"""Scoring a batch in shares, by the processes of one or several hosts."""
