"""What runs reach the outside world through."""
