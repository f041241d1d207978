"""Codecs write a library's trained objects to files and read them back without running code."""
