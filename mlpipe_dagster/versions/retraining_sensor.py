"""The sensor that retrains a model when it drifts or loses accuracy."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice

import dagster as dg

from mlpipe_dagster.accuracy.accuracy_asset import has_accuracy
from mlpipe_dagster.accuracy.accuracy_rules import decayed_accuracy
from mlpipe_dagster.markdown import code_span
from mlpipe_dagster.pipeline.asset_names import DRIFT, SNOWFLAKE, TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.pipeline.model_sensors import parse_cursor
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.retraining_rules import (
    JudgedBatch,
    RetrainingCause,
    drift_cause,
    has_cooled_down,
    newest_of_partitions,
)
from model_declaration.declaration import ModelDeclaration
from model_declaration.partitions import Training
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.resource_names import model_name_stem
from prediction_contract.registry.table import RegistryTable

# Drift is known only after a load, and a retraining takes an hour, so a shorter interval gains nothing.
_INTERVAL = timedelta(minutes=15)
# A batch may be checked several times, and a backfill checks many old ones.
_NEWEST_CHECKS = 100
# Several are read, because versions registered by hand have no verdict.
_NEWEST_VERSIONS = 10
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RetrainingCursor:
    """The sensor's state between ticks.

    Attributes:
        started_at: The partition of the newest batch at the last start of a retraining; empty if none.
    """

    started_at: str = ""

    @classmethod
    def parse(cls, text: str | None) -> "RetrainingCursor":
        """Parse a sensor's cursor; an invalid one counts as empty."""
        return parse_cursor(text, lambda found: cls(str(Partition(found["started_at"]))), cls())

    def text(self) -> str:
        """Return the cursor in the form that the sensor stores."""
        return json.dumps(asdict(self))


def judged_batches(instance: dg.DagsterInstance, model: str) -> Iterator[JudgedBatch]:
    """Yield the drift check's results for a model's batches, the last one first."""
    checks = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(asset_key(model, SNOWFLAKE), DRIFT), limit=_NEWEST_CHECKS
    )
    seen = set()
    for record in checks:
        evaluation = record.event.asset_check_evaluation if record.event else None
        if evaluation is None:
            continue
        values = {name: str(value.value) for name, value in evaluation.metadata.items()}
        if not {"batch_id", "partition", "model_version"} <= values.keys() or values["batch_id"] in seen:
            continue
        seen.add(values["batch_id"])
        yield JudgedBatch(
            batch_id=values["batch_id"],
            partition=Partition(values["partition"]),
            model_version=values["model_version"],
            has_moved=not evaluation.passed and "live_model_version" not in values,
        )


def retraining_tick(
    context: dg.SensorEvaluationContext, platform: Platform, declaration: ModelDeclaration, training: Training
) -> dg.SensorResult:
    """Start a retraining if drift or decayed accuracy calls for one.

    Two causes on one day, or two ticks, start the same execution. No Dagster run is started: the sensor of
    model versions records the version that the execution registers.
    """
    cursor, model = RetrainingCursor.parse(context.cursor), declaration.name
    settings = platform.settings
    registry = RegistryTable(
        platform.tick_client("dynamodb"),
        settings.deployment.registry_table,
        patience_seconds=_PATIENCE_SECONDS,
    )
    champion = registry.champion(model)
    if champion is None or champion.digest is None:
        return _skipped("No version is the champion", cursor)
    judged = newest_of_partitions(judged_batches(context.instance, model))
    newest = next((each.partition for each in judged if each.model_version == champion.digest), None)
    if newest is None:
        return _skipped(f"No batch of version {champion.version} has been checked yet", cursor)
    bucket = DataBucket(platform.tick_client("s3"), settings.data_bucket)
    cause = drift_cause(judged, champion.digest) or _accuracy_cause(bucket, registry, declaration)
    if cause is None:
        return _skipped(f"No reason to retrain; the newest checked partition is {newest}", cursor)
    packages = ModelPackages(platform.tick_client("sagemaker"), settings.deployment, bucket)
    retrained_at = [
        *_retrained_at(registry, packages, model),
        *([Partition(cursor.started_at)] if cursor.started_at else []),
    ]
    if not has_cooled_down(newest, retrained_at, training.cool_down):
        return _skipped(
            f"{cause.text}. The last retraining was on {max(retrained_at)}; the next may start "
            f"{training.cool_down} partitions later",
            cursor,
        )
    arn = _start(platform, model, newest, cause)
    return dg.SensorResult(
        cursor=RetrainingCursor(str(newest)).text(),
        skip_reason=f"{cause.text}. Execution {arn} was started",
        asset_events=[started_observation(model, cause, arn)],
    )


def _accuracy_cause(
    bucket: DataBucket, registry: RegistryTable, declaration: ModelDeclaration
) -> RetrainingCause | None:
    champion = registry.champion(declaration.name) if has_accuracy(declaration) else None
    if champion is None or champion.digest is None:
        return None
    findings = decayed_accuracy(bucket, registry, declaration, champion.digest, least=Level.WARN)
    if not findings:
        return None
    return RetrainingCause(
        "accuracy",
        f"{len(findings)} of the champion's last measured batches are worse than promised: "
        f"{'; '.join(finding.text for finding in findings)}",
    )


def _retrained_at(registry: RegistryTable, packages: ModelPackages, model: str) -> list[Partition]:
    """Return the newest partition used by the last registered retraining, whatever its outcome."""
    for version in islice(registry.model_versions(model, page_size=_NEWEST_VERSIONS), _NEWEST_VERSIONS):
        verdict = packages.verdict(version.verdict_key) if version.verdict_key else None
        if verdict is not None:
            return [Partition(verdict.last_held_out or verdict.trained_until)]
    return []


def _start(platform: Platform, model: str, newest: Partition, cause: RetrainingCause) -> str:
    # Imported here, because the clients import boto3, which must not happen while definitions load.
    from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions  # noqa: PLC0415
    from mlpipe_dagster.job_clients.polling import Polling  # noqa: PLC0415
    from mlpipe_dagster.versions.retraining_runs import RetrainingRequest  # noqa: PLC0415

    settings = platform.settings
    executions = PipelineExecutions(
        client=platform.tick_client("sagemaker"),
        logs_client=platform.tick_client("logs"),
        polling=Polling(patience_seconds=_PATIENCE_SECONDS),
    )
    wanted = RetrainingRequest(
        model=model,
        cause=cause.cause,
        requested_by="dagster:retraining-sensor",
        code_version=settings.code_version,
        intent=f"newest batch of {newest}",
    )
    return executions.start(wanted.execution(settings.deployment, 1))


def started_observation(model: str, cause: RetrainingCause, arn: str) -> dg.AssetObservation:
    """Return an observation of the trained model that a retraining was started."""
    return dg.AssetObservation(
        asset_key(model, TRAINED_MODEL),
        description=f"A retraining was started: {code_span(cause.text)}",
        metadata={"cause": cause.cause, "reason": cause.text, "execution": arn},
    )


def _skipped(reason: str, cursor: RetrainingCursor) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor.text())


def retraining_sensor(declaration: ModelDeclaration, training: Training) -> dg.SensorDefinition:
    """Return a model's retraining sensor, which runs by default."""

    @dg.sensor(
        name=f"{model_name_stem(declaration.name)}_retraining",
        minimum_interval_seconds=int(_INTERVAL.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Retrains {declaration.name} when its predictions drift or lose accuracy.",
    )
    def sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return retraining_tick(context, platform, declaration, training)

    return sensor
