"""Benchmarks. They compare alternatives in one run, so that the ratios hold on any machine."""
