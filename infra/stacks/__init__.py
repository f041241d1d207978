"""The stacks that a stage is deployed as; each reads like a list of what it holds."""
