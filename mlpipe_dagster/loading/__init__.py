"""Loading a batch into both stores, and the check that all of its rows are there or in quarantine."""
