"""Models that cost almost nothing, so that the benchmark measures the scoring around them."""
