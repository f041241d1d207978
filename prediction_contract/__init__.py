"""The contract of all parts of mlpipe: batches, manifests, rows, registry rules. Standard library only."""
