"""What leaves the stores when its time is over, and what must stay."""
