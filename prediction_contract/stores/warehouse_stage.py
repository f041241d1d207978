"""How Snowflake reads the data bucket: what its storage integration allows, and the stage on that."""

from __future__ import annotations

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.s3_layout import PREDICTIONS_PREFIX, delta_table_prefix, validated_bucket


def allowed_location(bucket: str) -> str:
    """Return the one location that the storage integration allows; a stage's URL must begin with it.

    Raises:
        InvalidNameError: S3 allows no bucket of this name.
    """
    return f"s3://{validated_bucket(bucket)}/{PREDICTIONS_PREFIX}"


def create_stage(stage: str, bucket: str, integration: str) -> str:
    """Return the statement that creates the stage on the allowed location where it is not there yet.

    Args:
        stage: Its name.
        bucket: The data bucket.
        integration: The storage integration that reads the bucket.

    Raises:
        InvalidNameError: A name has a form that is not safe in a statement.
    """
    return (
        f"CREATE STAGE IF NOT EXISTS {_identifier(stage)} URL = '{allowed_location(bucket)}' "
        f"STORAGE_INTEGRATION = {_identifier(integration)}"
    )


def staged_delta_table(stage: str, model: str) -> str:
    """Return where a model's Delta table lies on the stage, as `COPY` takes it.

    Raises:
        InvalidNameError: A name has a form that is not safe in a statement.
    """
    return f"@{_identifier(stage)}/{delta_table_prefix(model).removeprefix(PREDICTIONS_PREFIX)}"


def _identifier(name: str) -> str:
    if not (name.isascii() and name.isidentifier()):
        raise InvalidNameError(
            f"{name[:80]!r} is not the name of a stage or an integration",
            remedy="Pass the plain name, without quotes and without '@'",
        )
    return name
