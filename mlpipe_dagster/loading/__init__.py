"""One batch into both stores, and the check that everything is accounted for."""
