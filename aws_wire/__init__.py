"""AWS's wire protocol without its SDK: a signer of requests and a reader of HTTP responses."""
