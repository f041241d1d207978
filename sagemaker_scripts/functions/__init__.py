"""A model's own functions, as its project has written them."""
