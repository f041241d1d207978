"""Writes a batch: encodes rows, writes JSON parts and data files, and makes one commit and the manifest."""
