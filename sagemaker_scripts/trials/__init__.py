"""A model tried on sample data: its functions run as its jobs run them, and nothing is delivered."""
