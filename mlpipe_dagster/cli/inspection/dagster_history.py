"""Reads a batch's runs and check results from Dagster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    import dagster as dg

_MAX_RUNS = 50
_MAX_CHECKS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DagsterHistory:
    """Runs and check results of one batch.

    Attributes:
        runs: `run_id`, `job`, `status`, `created_at`, `started_at`, `ended_at`; oldest first.
        checks: `asset`, `check`, `passed`, `severity`, `description`, `run_id`, `at`; oldest first.
        unknown: Why neither could be read; empty if they were.
    """

    runs: tuple[dict[str, Any], ...] = ()
    checks: tuple[dict[str, Any], ...] = ()
    unknown: str = ""


def dagster_history(model: str, batch_id: str) -> DagsterHistory:
    """Return a batch's history in this environment's Dagster instance."""
    if not os.environ.get("DAGSTER_HOME"):
        return DagsterHistory(unknown="set DAGSTER_HOME to see Dagster's runs and checks")
    # The import takes most of a second.
    import dagster as dg  # noqa: PLC0415

    try:
        with dg.DagsterInstance.get() as instance:
            return batch_history(instance, model, batch_id)
    except Exception as error:  # noqa: BLE001  # storages raise all kinds of errors, and the history is optional
        return DagsterHistory(unknown=f"Dagster's history cannot be read: {error}"[:500])


def batch_history(instance: dg.DagsterInstance, model: str, batch_id: str) -> DagsterHistory:
    """Return the runs whose tags name a batch, and their checks of the model's assets."""
    import dagster as dg  # noqa: PLC0415

    from mlpipe_dagster.pipeline.asset_names import BATCH_TAG, MODEL_TAG, selected_batch_tag  # noqa: PLC0415

    found: dict[str, dg.RunRecord] = {}
    for tags in ({BATCH_TAG: batch_id, MODEL_TAG: model}, {selected_batch_tag(model): batch_id}):
        for record in instance.get_run_records(dg.RunsFilter(tags=tags), limit=_MAX_RUNS):
            found[record.dagster_run.run_id] = record
    records = sorted(found.values(), key=lambda record: record.create_timestamp)
    checks = [check for record in records for check in _checks(instance, model, record.dagster_run.run_id)]
    return DagsterHistory(runs=tuple(map(_run_document, records)), checks=tuple(checks))


def _run_document(record: dg.RunRecord) -> dict[str, Any]:
    run = record.dagster_run
    return {
        "run_id": run.run_id,
        "job": run.job_name,
        "status": run.status.value.lower(),
        "created_at": format_utc(_aware(record.create_timestamp)),
        "started_at": _moment(record.start_time),
        "ended_at": _moment(record.end_time),
    }


def _checks(instance: dg.DagsterInstance, model: str, run_id: str) -> list[dict[str, Any]]:
    import dagster as dg  # noqa: PLC0415

    connection = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=_MAX_CHECKS
    )
    checks = []
    for record in connection.records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        evaluation = event.asset_check_evaluation_data
        if evaluation.asset_key.path[0] != model:
            continue
        checks.append(
            {
                "asset": evaluation.asset_key.to_user_string(),
                "check": evaluation.check_name,
                "passed": evaluation.passed,
                "severity": evaluation.severity.value.lower(),
                "description": evaluation.description,
                "run_id": run_id,
                "at": _moment(record.event_log_entry.timestamp),
            }
        )
    return checks


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_utc(datetime.fromtimestamp(seconds, UTC))
