"""The model of a batch: the first attempt chooses it, and all later attempts use it."""

from __future__ import annotations

import logging

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.manifests.manifest import InputObject, ModelPackage
from prediction_contract.naming.s3_layout import pinned_model_key
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.learning.model_artifact import declared_model
from sagemaker_scripts.learning.registered_models import (
    VersionRegistry,
    approved_version,
    as_pinned_model,
    champion_of,
)

_LOG = logging.getLogger(__name__)
_LARGEST_PIN = 64 * 1024


class PinnedModelError(ContractError):
    """The batch is pinned to another model version than the one in the arguments."""


def pinned_model(
    arguments: ScoreArguments,
    attempt: BatchAttempt,
    store: ObjectStore,
    inputs: ModelInputs,
    registry: VersionRegistry,
) -> PinnedModel:
    """Return the model of a batch; the first attempt that calls this chooses it.

    Args:
        arguments: The job's arguments.
        attempt: The attempt.
        store: The data bucket.
        inputs: The model's inputs.
        registry: The registry, read for the champion or the version in the arguments.

    Raises:
        ContractError: No model may score, or the arguments name another version than the batch's.
    """
    key = pinned_model_key(arguments.model, attempt.partition, attempt.batch_id)
    content = store.find(key, largest=_LARGEST_PIN)
    if content is None:
        chosen = _chosen(arguments, inputs, registry).to_bytes()
        # The first writer decides; it may be an earlier attempt that is still running.
        content = chosen if store.put_new(key, chosen) else store.get(key, largest=_LARGEST_PIN)
    pinned = PinnedModel.parse(content)
    if arguments.version not in {None, pinned.version}:
        raise PinnedModelError(
            f"The batch is pinned to version {pinned.version}, but version {arguments.version} was requested",
            remedy="Score the partition as a new batch",
            model=arguments.model,
            batch_id=attempt.batch_id,
        )
    _LOG.info("model version %s, digest %s", pinned.version, pinned.digest)
    return pinned


def _chosen(arguments: ScoreArguments, inputs: ModelInputs, registry: VersionRegistry) -> PinnedModel:
    """Return the model for a new batch: the named version, the declared file, or the champion."""
    model = arguments.model
    if arguments.version is not None:
        return as_pinned_model(approved_version(registry, model, arguments.version))
    if inputs.trained_elsewhere is not None:
        return declared_model(inputs.trained_elsewhere)
    return as_pinned_model(champion_of(registry, model))


def pinned_source(pinned: PinnedModel) -> InputObject:
    """Return the archive or file of a pinned model, for the manifest."""
    return InputObject(pinned.key, pinned.sha256, pinned.bucket)


def package_of(pinned: PinnedModel) -> ModelPackage | None:
    """Return the registered version of a pinned model; None for an unregistered model."""
    if pinned.version is None or pinned.package_arn is None:
        return None
    return ModelPackage(pinned.package_arn, pinned.version, pinned.digest, pinned.approved_by)
