"""Authorization: bearer tokens and the issuer's signing keys."""
