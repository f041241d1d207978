"""Delivery of a batch: it is opened, written by any number of writers, and committed once."""
