"""The parts of stacks, one capability per file. Their definitions are in `infra.definitions`."""
