"""Collects facts about a model's versions from the registry, SageMaker and S3, for `mlpipe doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.health.health_findings import HealthFinding
from mlpipe_dagster.cli.health.version_health import VersionFacts, version_findings
from mlpipe_dagster.cli.versions.listed_executions import listed_executions
from mlpipe_dagster.cli.versions.version_documents import waits_for
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.versions.model_packages import ModelPackages
from prediction_contract.naming.s3_layout import shadow_prefix
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, VersionState

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

_NEWEST_VERSIONS = 50
_NEWEST_EXECUTIONS = 20
_NEWEST_BATCHES = 3
_OPEN = frozenset({VersionState.CANDIDATE, VersionState.APPROVED})


def found_in_versions(
    access: DeploymentAccess, declaration: ModelDeclaration, patience: timedelta
) -> Iterator[HealthFinding]:
    """Yield findings about a model's versions; none if the model neither has nor declares versions.

    Args:
        access: The deployment.
        declaration: The model's declaration.
        patience: How long versions and failed executions may wait for a person.
    """
    model = declaration.name
    pointer = access.registry.champion(model)
    if pointer or declaration.has_versions:
        yield from version_findings(_facts(access, declaration, pointer, patience))


def _facts(
    access: DeploymentAccess,
    declaration: ModelDeclaration,
    seen: ChampionPointer | None,
    patience: timedelta,
) -> VersionFacts:
    model, registry, training = declaration.name, access.registry, declaration.retraining
    sagemaker, deployment = access.client("sagemaker"), access.settings.deployment
    pointer = seen or ChampionPointer(model=model)
    champion = None if pointer.version is None else registry.model_version(model, pointer.version)
    packages = ModelPackages(sagemaker, deployment, access.bucket)
    package = None if champion is None else packages.describe(model, champion.version)
    newest = islice(registry.model_versions(model, page_size=_NEWEST_VERSIONS), _NEWEST_VERSIONS)
    pipeline = deployment.retraining_pipeline(model)
    return VersionFacts(
        model=model,
        pointer=pointer,
        champion=champion,
        champion_approval=None if package is None else package["ModelApprovalStatus"],
        has_artifact=champion is None or _has_artifact(access, champion),
        waiting=[
            (version, waits_for(version, pointer) or "")
            for version in newest
            if version.state in _OPEN and version.version > (pointer.version or 0)
        ],
        executions=[]
        if training is None
        else list(islice(listed_executions(sagemaker, pipeline), _NEWEST_EXECUTIONS)),
        is_scheduled=training is not None and training.schedule is not None,
        needs_champion=declaration.has_versions,
        unchallenged=_unchallenged(access, pointer),
        patience=patience,
        now=access.now,
    )


def _has_artifact(access: DeploymentAccess, champion: ModelVersion) -> bool:
    bucket = DataBucket(access.client("s3"), champion.artifact_bucket or access.settings.data_bucket)
    return bucket.look(champion.artifact_key) is not None


def _unchallenged(access: DeploymentAccess, pointer: ChampionPointer) -> list[str]:
    """Return the partitions of the newest batches if the challenger has scored none of them, else nothing."""
    if pointer.challenger is None:
        return []
    newest = access.registry.batches(pointer.model, newest_first=True, page_size=_NEWEST_BATCHES)
    partitions = [batch.partition for batch in islice(newest, _NEWEST_BATCHES)]
    s3, bucket = access.client("s3"), access.settings.data_bucket
    for partition in partitions:
        prefix = shadow_prefix(pointer.model, pointer.challenger, partition)
        if s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount"):
            # The challenger may still be scoring the newest one.
            return []
    return sorted(set(partitions)) if len(partitions) == _NEWEST_BATCHES else []
