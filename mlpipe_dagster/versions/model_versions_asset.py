"""The asset of a model's versions, with a partition per version, and the checks of a version."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator

import dagster as dg

from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import (
    ARTIFACT_LOADS,
    BETTER_THAN_CHAMPION,
    DAGSTER_PARTITION_TAG,
    FEATURES,
    MODEL_VERSIONS,
    NO_SLICE_WORSE,
    asset_key,
    op_name,
)
from mlpipe_dagster.pipeline.library_kinds import library_kind
from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectMissingError, ObjectUnreadableError
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.promotion_by_rule import UnknownVersionError, known_version
from mlpipe_dagster.versions.version_events import (
    VersionVerdict,
    check_evaluation,
    version_partitions,
    version_verdicts,
)
from model_declaration.declaration import ModelDeclaration
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import ModelVersion

_DESCRIPTIONS = {
    BETTER_THAN_CHAMPION: "The version was better than the champion on rows that neither had learned from.",
    NO_SLICE_WORSE: "The version was worse than the champion in no declared slice of those rows.",
    ARTIFACT_LOADS: "The version's file exists and is the one that was judged and approved.",
}


def model_versions_spec(declaration: ModelDeclaration) -> dg.AssetSpec:
    """Return the asset of a model's versions; the sensor of model versions reports its events."""
    model = declaration.name
    return dg.AssetSpec(
        asset_key(model, MODEL_VERSIONS),
        deps=[asset_key(model, FEATURES)],
        partitions_def=version_partitions(model),
        kinds={"sagemaker", library_kind(declaration)},
        description="Each version of the model, with its verdict and its present state.",
        metadata=code_links(declaration, "train"),
        **asset_attributes(declaration),
    )


def version_checks(declaration: ModelDeclaration) -> dg.AssetChecksDefinition:
    """Return a version's checks. The sensor evaluates them for a new version, without reading its file."""
    model = declaration.name
    specs = [
        dg.AssetCheckSpec(name, asset=asset_key(model, MODEL_VERSIONS), description=description)
        for name, description in _DESCRIPTIONS.items()
    ]

    @dg.multi_asset_check(name=op_name(model, MODEL_VERSIONS), specs=specs, can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
        version = checked_version(platform.registry, model, context.run.tags.get(DAGSTER_PARTITION_TAG))
        selected = context.op_execution_context.selected_asset_check_keys
        for name, found in _examined(platform, version).items():
            evaluation = check_evaluation(version, name, found)
            if evaluation.asset_check_key in selected:
                yield dg.AssetCheckResult(
                    asset_key=evaluation.asset_key,
                    check_name=name,
                    passed=evaluation.passed,
                    severity=evaluation.severity,
                    description=evaluation.description,
                    metadata=evaluation.metadata,
                )

    return checks


def checked_version(registry: RegistryTable, model: str, partition: str | None) -> ModelVersion:
    """Return the version that a run's partition names, or the newest one.

    Raises:
        UnknownVersionError: The registry does not have that version, or has none.
    """
    if partition is not None:
        return known_version(registry, model, int(partition))
    newest = next(iter(registry.model_versions(model, page_size=1)), None)
    if newest is None:
        raise UnknownVersionError(
            "The registry has no version of the model", remedy=f"Run `mlpipe retrain {model}`", model=model
        )
    return newest


def _examined(platform: Platform, version: ModelVersion) -> dict[str, VersionVerdict]:
    settings = platform.settings
    packages = ModelPackages(platform.client("sagemaker"), settings.deployment, platform.bucket)
    verdict = packages.verdict(version.verdict_key) if version.verdict_key else None
    found = version_verdicts(platform.bucket, version, verdict)
    if found[ARTIFACT_LOADS].passed and version.codec is None:
        found[ARTIFACT_LOADS] = _bytes_are_approved(platform.bucket, version)
    for name in _DESCRIPTIONS.keys() - found.keys():
        found[name] = VersionVerdict(True, "Nothing was compared: no metrics are declared")
    return found


def _bytes_are_approved(bucket: DataBucket, version: ModelVersion) -> VersionVerdict:
    address = f"s3://{bucket.name}/{version.artifact_key}"
    try:
        sha256 = bucket.sha256(version.artifact_key)
    except (ObjectMissingError, ObjectUnreadableError) as error:
        return VersionVerdict(False, str(error), is_error=True)
    if sha256 != version.artifact_sha256:
        return VersionVerdict(
            False,
            f"{address} has the SHA-256 {sha256}, but the approved one is {version.artifact_sha256}, so the "
            "version cannot score. Restore the object",
            is_error=True,
        )
    return VersionVerdict(True, f"{address} has the approved SHA-256")
