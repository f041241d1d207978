"""Tables: Arrow in the platform; pandas, Polars or Arrow in a model's functions."""
