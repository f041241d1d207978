"""`mlpipe demo`: the whole path on the local stack, from sample data to a live prediction."""
