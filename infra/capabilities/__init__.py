"""What stacks are made of, one capability a file; definitions and names come from `infra` itself."""
