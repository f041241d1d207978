"""`mlpipe doctor`: finds faults of the deployment, with remedies."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.health.deployment_health import (
    bucket_findings,
    code_findings,
    done_files,
    ended_job_run_state,
    guarded,
    queue_findings,
    table_findings,
)
from mlpipe_dagster.cli.health.health_findings import HealthFinding, Severity
from mlpipe_dagster.cli.health.model_health import (
    ModelRecords,
    model_findings,
    projection_findings,
    staging_findings,
    unregistered_findings,
)
from mlpipe_dagster.cli.health.version_facts import found_in_versions
from mlpipe_dagster.cli.options import Commands, add_command, at_least_one
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.naming.s3_layout import parse_done_key
from prediction_contract.registry.records import BatchRecord, LivePointers, LoadState, RetentionRecord
from prediction_contract.registry.table import RegistryTable

_DAYS = 7
# How many of the oldest batches that are not retired are checked.
_OLDEST_BATCHES = 100
_ORDER = tuple(Severity)
_WRONG = frozenset({Severity.ERROR, Severity.WARNING})


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "doctor", doctor)
    command.add_argument("model", nargs="?", help="check only this model")
    command.add_argument(
        "--days",
        type=at_least_one,
        default=_DAYS,
        help="how many days of done files and batches to check, and how long a candidate may wait; "
        f"by default {_DAYS}",
    )


def doctor(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Find faults of the deployment, and say how to remedy them."""
    if options.model:
        access.require_declared(options.model)
    models = [options.model] if options.model else access.models()
    found = sorted(_findings(access, models, options.days), key=lambda each: _ORDER.index(each.severity))
    counts = {str(severity): sum(each.severity is severity for each in found) for severity in Severity}
    is_healthy = not any(each.severity in _WRONG for each in found)
    document = {
        "is_healthy": is_healthy,
        "looked_at": models,
        "counts": counts,
        "findings": [each.document() for each in found],
    }
    return CommandResult(
        document=document,
        sections=[
            Fields(members={"healthy": is_healthy, "models": models, **counts}),
            Table(
                title="findings",
                columns=("severity", "topic", "model", "batch_id", "what", "remedy"),
                rows=document["findings"],
                whole=frozenset({"severity", "topic", "model", "batch_id", "what", "remedy"}),
            ),
        ],
        ok=is_healthy,
    )


def _findings(access: DeploymentAccess, models: list[str], days: int) -> Iterator[HealthFinding]:
    try:
        deployment = access.settings.deployment
    except ContractError as error:
        # Nothing can be checked without settings.
        yield HealthFinding(severity=Severity.ERROR, topic="settings", what=error.what, remedy=error.remedy)
        return
    steps: list[tuple[str, str, Callable[[], Iterator[HealthFinding]]]] = [
        (
            "bucket",
            f"Check that {access.settings.data_bucket} exists and that you may list it",
            partial(bucket_findings, access),
        ),
        (
            "registry",
            f"Check that {deployment.registry_table} exists and that you may read it",
            partial(table_findings, access, models),
        ),
        ("queues", "Check that the queues exist and that you may read them", partial(queue_findings, access)),
        (
            "code",
            f"Check that you may read the Glue job {deployment.load_job}",
            partial(code_findings, access),
        ),
    ]
    for topic, remedy, step in steps:
        yield from guarded(topic, remedy, step)
    known: dict[str, ModelRecords] = {}
    for model in models:
        yield from guarded(
            "model",
            "Check the registry and the declaration",
            partial(_model, access, model, known, days),
        )
        yield from guarded(
            "versions",
            "Check that you may read SageMaker's packages and pipelines and the models' files",
            partial(_versions, access, model, days),
        )
    yield from guarded(
        "done_files", "Check that you may list done/", partial(_done_files, access, known, days)
    )
    yield from guarded(
        "snowflake",
        "Check the SNOWFLAKE_ variables and Snowflake's state",
        partial(_warehouse, access, known),
    )


def _model(
    access: DeploymentAccess, model: str, known: dict[str, ModelRecords], days: int
) -> Iterator[HealthFinding]:
    """Yield findings about a model in the registry, and keep its records in `known` for later checks."""
    registry, now = access.registry, access.now
    live_pointers = registry.live_pointers(
        model, home_region=access.home, regions=access.settings.serving_regions
    )
    retention = registry.retention(model)
    known[model] = records = ModelRecords(
        model=model,
        batches=_batches_to_check(
            registry, live_pointers, retention, model=model, since=now - timedelta(days=days)
        ),
        live_pointers=live_pointers,
        rollback_target=registry.rollback_target(model),
        retention=retention,
        minimum_life=timedelta(hours=access.declaration(model).retention.minimum_life_hours),
        now=now,
    )
    yield from model_findings(records)
    for batch in records.batches:
        # A retired batch is claimed by a sweep, not by a job run.
        if batch.claim_job_run_id is None or batch.load_state == LoadState.RETIRED:
            continue
        if ended := ended_job_run_state(access, batch.claim_job_run_id):
            yield records.finding(
                Severity.WARNING,
                "claims",
                f"Its load is claimed by job run {batch.claim_job_run_id}, which has ended ({ended})",
                f"Run `mlpipe load {batch.manifest_key}`: it replaces the claim",
                batch.batch_id,
            )


def _versions(access: DeploymentAccess, model: str, days: int) -> Iterator[HealthFinding]:
    yield from found_in_versions(access, access.declaration(model), timedelta(days=days))


def _batches_to_check(
    registry: RegistryTable,
    live_pointers: LivePointers,
    retention: RetentionRecord,
    *,
    model: str,
    since: datetime,
) -> list[BatchRecord]:
    """Return the batches to check, oldest first; their number does not grow with the model's history.

    These are the batches that a region serves, the newest ones, and the oldest ones that are not retired,
    which include the overdue ones.
    """
    recent = registry.batches(model, minted_from=since.strftime("%Y%m%d"))
    oldest = registry.batches(model, minted_from=retention.retained_from, page_size=_OLDEST_BATCHES)
    pointers = (live_pointers.home, *live_pointers.regions.values())
    served = {pointer.batch_id for pointer in pointers if pointer and pointer.batch_id}
    retained = (record for record in oldest if record.load_state != LoadState.RETIRED)
    found = {record.batch_id: record for record in (*recent, *islice(retained, _OLDEST_BATCHES))}
    for batch_id in served - found.keys():
        record = registry.batch(model, batch_id)
        if record is not None:
            found[batch_id] = record
    return [found[batch_id] for batch_id in sorted(found)]


def _done_files(
    access: DeploymentAccess, known: dict[str, ModelRecords], days: int
) -> Iterator[HealthFinding]:
    now = access.now
    found: dict[str, dict[str, datetime]] = {}
    foreign_keys: list[str] = []
    for key, put_at in done_files(access, (now - timedelta(days=days - 1)).date()):
        try:
            name = parse_done_key(key)
        except InvalidNameError:
            foreign_keys.append(key)
            continue
        found.setdefault(name.model, {})[name.batch_id] = put_at
    declared = access.models()
    for model, files in found.items():
        if model not in declared:
            yield HealthFinding(
                severity=Severity.WARNING,
                topic="done_files",
                model=model,
                what=f"{len(files)} done files name a model that is not declared; the first is {min(files)}",
                remedy="Declare the model and reload Dagster's code location, or delete the files",
            )
        if model in known:
            batches = {batch.batch_id for batch in known[model].batches}
            yield from unregistered_findings(model, files, batches, now)
    if foreign_keys:
        yield HealthFinding(
            severity=Severity.NOTE,
            topic="done_files",
            what=f"{len(foreign_keys)} objects below done/ are not done files; the first is "
            f"{foreign_keys[0][:200]!r}",
            remedy="Delete them, or deliver them as done/<UTC date of minting>/<model>/<batch id>.json",
        )


def _warehouse(access: DeploymentAccess, known: dict[str, ModelRecords]) -> Iterator[HealthFinding]:
    with access.warehouse() as session:
        tables = session.tables()
        projected = session.projected(known)
    for model, records in known.items():
        known_sequences = projected[model]
        gaps = [
            (before, after)
            for before, after in known_sequences.gaps
            if access.registry.publications(model, after=before, up_to=after - 1, most=1)
        ]
        yield from projection_findings(records, known_sequences.highest, gaps)
        yield from staging_findings(records, tables, partial(_is_claimed, access, model))


def _is_claimed(access: DeploymentAccess, model: str, batch_id: str) -> bool:
    record = access.registry.batch(model, batch_id)
    return record is not None and record.claim_token is not None
