"""A third-party weather API for the local stack."""
