"""`mlpipe demo`: the whole path on the local stack, from real flights to a live prediction, and what held."""
