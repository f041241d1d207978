"""AWS on the wire without its SDK: one signer of requests and one reader of HTTP answers."""
