"""Retention: removes expired batches and versions from the stores."""
