"""Manifests of delivered batches (done files), load reports, and measured accuracy."""
