"""Calls of a model's functions, which its project defines."""
