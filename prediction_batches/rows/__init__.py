"""Rows as columns: what a program gives, and how it is encoded without looking at rows one by one."""
