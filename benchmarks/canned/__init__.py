"""Services that answer the benchmarks from memory, and count what they are asked."""
