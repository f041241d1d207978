"""Secrets of a trial: read from AWS with the user's credentials; sample data has none."""

from __future__ import annotations

from collections.abc import Callable

import boto3

from prediction_batches.object_store import AWS_CONFIG
from sagemaker_scripts.sources.source_objects import SourceError


def secret_text(*, is_sample: bool) -> Callable[[str], str]:
    """Return a function that returns a secret's document by its name.

    Args:
        is_sample: Whether the data is sample data, which needs no secret.
    """

    def text(name: str) -> str:
        if is_sample:
            raise SourceError(f"Sample data has no secret {name}", remedy="Pass --bucket to ask Snowflake")
        client = boto3.client("secretsmanager", config=AWS_CONFIG)
        return str(client.get_secret_value(SecretId=name)["SecretString"])

    return text
