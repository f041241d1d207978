"""The API's documentation: an OpenAPI document, and an HTML page made from it."""
