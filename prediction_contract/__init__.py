"""What every part of mlpipe agrees on: batches, manifests, rows, registry rules. Standard library only."""
