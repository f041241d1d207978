"""The infrastructure of mlpipe: the local stack, provisioning, packaging."""
