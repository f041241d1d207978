"""A third-party weather API, as a service of the local stack."""
