"""Codecs: how a trained object of one library becomes a file and comes back, without running code."""
