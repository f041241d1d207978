"""Reads the done file of a batch."""

from __future__ import annotations

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError, InvalidManifestError
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.s3_layout import done_key


class ManifestConflictError(ContractError):
    """The done file at this batch's key does not belong to this batch."""


def done_manifest(
    store: ObjectStore, model: str, batch_id: str, *, partition: str | None = None
) -> Manifest | None:
    """Return a batch's valid manifest, or None if the batch is not done.

    Args:
        store: The bucket.
        model: The model's name.
        batch_id: The batch.
        partition: The partition that the batch must score; None for any.

    Raises:
        InvalidManifestError: The done file is not a valid manifest of this batch.
        ManifestConflictError: The batch was done for another partition.
    """
    key = done_key(model, batch_id)
    content = store.find(key)
    if content is None:
        return None
    try:
        manifest = parse_manifest(content)
        validate(manifest, bucket=store.bucket, key=key)
    except InvalidManifestError as error:
        raise type(error)(
            f"{key} is not this batch's manifest: {error.what}",
            remedy=error.remedy,
            model=model,
            batch_id=batch_id,
        ) from error
    if partition not in {None, manifest.partition}:
        raise ManifestConflictError(
            f"The batch is already done for partition {manifest.partition}, not {partition}",
            remedy="Pass another batch_id",
            model=model,
            batch_id=batch_id,
        )
    return manifest
