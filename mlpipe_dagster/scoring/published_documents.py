"""Uploads the documents that a model's jobs read; each key contains a digest of its content."""

from __future__ import annotations

from mlpipe_dagster.resources.platform import Platform
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs_document import inputs_document


def published_schema(platform: Platform, declaration: ModelDeclaration) -> str:
    """Upload the declared schema of the predictions, and return its key."""
    key, content = declaration.schema_document
    platform.bucket.put(key, content)
    return key


def published_inputs(platform: Platform, declaration: ModelDeclaration) -> str:
    """Upload the declaration's sources, functions and codecs, and return the document's key."""
    key, content = inputs_document(declaration)
    platform.bucket.put(key, content)
    return key
