"""Models that cost next to nothing, so that what is measured is the scoring around them."""
