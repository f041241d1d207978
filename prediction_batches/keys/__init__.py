"""Digests of a batch's row keys, and the search for duplicates among them."""
