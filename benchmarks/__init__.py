"""Benchmarks: ratios, side by side in one run, on whatever machine there is."""
