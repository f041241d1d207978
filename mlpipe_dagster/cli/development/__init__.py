"""Commands for those who write a project: they need no deployment and no local stack."""
