"""What keeps, loads and hands out data."""
