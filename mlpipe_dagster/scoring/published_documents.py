"""The documents that a model's jobs read: what is declared, under names made of the content."""

from __future__ import annotations

from mlpipe_dagster.resources.platform import Platform
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs_document import inputs_document


def published_schema(platform: Platform, declaration: ModelDeclaration) -> str:
    """Put the declared schema of the predictions where jobs read it, and return its key."""
    key, content = declaration.schema_document
    platform.bucket.put(key, content)
    return key


def published_inputs(platform: Platform, declaration: ModelDeclaration) -> str:
    """Put what is declared of sources, functions and codecs where jobs read it, and return its key."""
    key, content = inputs_document(declaration)
    platform.bucket.put(key, content)
    return key
