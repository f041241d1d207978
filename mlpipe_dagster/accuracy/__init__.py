"""Accuracy of what was published: measured once outcomes are known, compared with what was promised."""
