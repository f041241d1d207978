"""Who may read: bearer tokens and the issuer's signing keys."""
