"""Tables: Arrow inside, pandas, Polars or Arrow in a model's functions."""
