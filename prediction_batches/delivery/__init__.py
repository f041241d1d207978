"""A batch as it is delivered: opened, written by any number of writers, and committed once."""
