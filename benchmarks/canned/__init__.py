"""Services that answer the benchmarks from memory and count the requests."""
