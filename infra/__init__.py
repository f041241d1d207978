"""Everything mlpipe runs on: the local stack, provisioning, packaging."""
