"""Commands for writing a project; they need neither a deployment nor the local stack."""
