"""Snowflake's access to the data bucket: the location that its storage integration allows, and the stage."""

from __future__ import annotations

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.s3_layout import PREDICTIONS_PREFIX, delta_table_prefix, validated_bucket


def allowed_location(bucket: str) -> str:
    """Return the only location that the storage integration allows. A stage's URL must begin with it.

    Raises:
        InvalidNameError: The bucket name is invalid.
    """
    return f"s3://{validated_bucket(bucket)}/{PREDICTIONS_PREFIX}"


def create_stage(stage: str, bucket: str, integration: str) -> str:
    """Return the statement that creates the stage for the allowed location unless it exists.

    Args:
        stage: The stage's name.
        bucket: The data bucket.
        integration: The storage integration that reads the bucket.

    Raises:
        InvalidNameError: A name is not safe in a statement.
    """
    return (
        f"CREATE STAGE IF NOT EXISTS {_identifier(stage)} URL = '{allowed_location(bucket)}' "
        f"STORAGE_INTEGRATION = {_identifier(integration)}"
    )


def staged_delta_table(stage: str, model: str) -> str:
    """Return the location of a model's Delta table on the stage, for `COPY`.

    Raises:
        InvalidNameError: A name is not safe in a statement.
    """
    return f"@{_identifier(stage)}/{delta_table_prefix(model).removeprefix(PREDICTIONS_PREFIX)}"


def _identifier(name: str) -> str:
    if not (name.isascii() and name.isidentifier()):
        raise InvalidNameError(
            f"{name[:80]!r} is not the name of a stage or an integration",
            remedy="Pass the plain name, without quotes and without '@'",
        )
    return name
