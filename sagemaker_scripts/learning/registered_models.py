"""Finds models in the registry: the champion, or a named version. Only approved versions score."""

from __future__ import annotations

from typing import Protocol

from prediction_contract.errors import ContractError
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, VersionState

# The reads are repeated if a promotion happens between them; this many in a row are not expected.
_MAX_READS = 5
_APPROVED_ONCE = frozenset(
    {VersionState.APPROVED, VersionState.CHAMPION, VersionState.SUPERSEDED, VersionState.WITHDRAWN}
)
_REFUSALS: dict[str, str] = {
    VersionState.REFUSED: "was refused",
    VersionState.CANDIDATE: "was never approved",
    VersionState.RETIRED: "was retired, and its artifact is deleted",
}


class ModelVersionError(ContractError):
    """The registry has no suitable model version."""


class VersionRegistry(Protocol):
    """The part of the registry that holds champions and versions; reads are strongly consistent."""

    def champion(self, model: str) -> ChampionPointer | None:
        """Return a model's champion pointer, or None before the first promotion."""
        ...

    def model_version(self, model: str, version: int) -> ModelVersion | None:
        """Return the record of a version, or None."""
        ...


def champion_of(registry: VersionRegistry, model: str) -> ModelVersion:
    """Return a model's champion.

    Raises:
        ModelVersionError: No version was promoted yet, the last champion was demoted without a successor, or
            the champion's pointer and record contradict each other.
    """
    contradiction = ""
    for _ in range(_MAX_READS):
        pointer = registry.champion(model)
        if pointer is None or pointer.version is None:
            was_demoted = pointer is not None and pointer.withdrawn_before is not None
            raise ModelVersionError(
                "No model version is the champion: "
                f"{'the last one was demoted' if was_demoted else 'none was promoted yet'}",
                remedy=f"Promote a version by `mlpipe promote {model} <version>`, or train a new one by "
                f"`mlpipe retrain {model}`",
                model=model,
            )
        record = registry.model_version(model, pointer.version)
        if record is not None and record.state == VersionState.CHAMPION:
            return record
        contradiction = (
            f"The champion pointer names version {pointer.version}, but its record "
            f"{f'says {record.state}' if record else 'is missing'}"
        )
    raise ModelVersionError(
        contradiction,
        remedy=f"Run `mlpipe doctor`, then promote a version by `mlpipe promote {model} <version>`",
        model=model,
    )


def approved_version(registry: VersionRegistry, model: str, version: int) -> ModelVersion:
    """Return a version that was approved once, even if it was superseded or withdrawn since.

    Raises:
        ModelVersionError: The version is not registered, was never approved, or its artifact was removed.
    """
    record = registry.model_version(model, version)
    if record is not None and record.state in _APPROVED_ONCE:
        return record
    why = "is not registered" if record is None else _REFUSALS.get(record.state, f"is {record.state}")
    raise ModelVersionError(
        f"Version {version} {why}",
        remedy=f"Name an approved version: `mlpipe models {model}` lists them",
        model=model,
    )


def challenging_version(registry: VersionRegistry, model: str, version: int) -> ModelVersion:
    """Return a version that may score as a challenger; it may be a candidate, because it is not served.

    Raises:
        ModelVersionError: The version is not registered, was refused, or its artifact was removed.
    """
    record = registry.model_version(model, version)
    if record is not None and record.state == VersionState.CANDIDATE:
        return record
    return approved_version(registry, model, version)


def as_pinned_model(record: ModelVersion) -> PinnedModel:
    """Return the reference to a version in the form that batches store."""
    return PinnedModel(
        digest=record.digest,
        key=record.artifact_key,
        sha256=record.artifact_sha256,
        bucket=record.artifact_bucket,
        codec=record.codec,
        version=record.version,
        package_arn=record.package_arn,
        approved_by=record.approved_by,
    )
