"""Challengers: versions that are scored beside the champion, compared with it, and never served."""
