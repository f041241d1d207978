"""Three hundred columns."""
