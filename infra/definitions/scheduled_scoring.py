"""What a declaration says of a model that SageMaker scores on a schedule; read without Dagster.

`mlpipe_dagster/declaration` says what may stand in the file, and refuses what is wrong. Defaults are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prediction_contract.cleaning.cleaning_rules import Cleaning, literal_text
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.jobs.partition_schedule import USUAL_CRONS, PartitionSchedule
from prediction_contract.jobs.quarantine_tolerance import QuarantineTolerance
from prediction_contract.jobs.scheduler_cron import scheduler_cron
from prediction_contract.naming.batch import Partition
from prediction_contract.rows.schema import Column, ColumnType, PredictionSchema

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledScoring:
    """How a model is scored without Dagster.

    Attributes:
        expression: The schedule as EventBridge Scheduler takes it, in UTC.
        is_running: Whether it starts anything.
        partitions: Which partition a tick is to score.
        history_days: How many days before a partition its features are made of.
        lookback: How many partitions back the previous batch may lie.
        schema: Of its predictions.
        cleaning: What becomes of them on their way into both stores.
        tolerance: How many rows of a batch may be refused.
        instance_type: The machine of both jobs.
        volume_gb: Its storage.
        max_runtime_seconds: How long a job may take.
    """

    expression: str
    is_running: bool
    partitions: PartitionSchedule
    history_days: int
    lookback: int
    schema: PredictionSchema
    cleaning: Cleaning
    tolerance: QuarantineTolerance
    instance_type: str
    volume_gb: int
    max_runtime_seconds: int


def scheduled_scoring(attributes: Mapping[str, Any]) -> ScheduledScoring:
    """Return how a model is scored, from the attributes of its `defs.yaml`.

    Raises:
        ContractError: Schedule, partitions or columns are wrong; `make check` tells file and line.
    """
    partitions, schedule = attributes["partitions"], attributes.get("schedule") or {}
    compute, quality = attributes.get("processing") or {}, attributes.get("quality") or {}
    rate = quality.get("quarantine_rate")
    columns = attributes["columns"]
    keys = [column["name"] for column in columns if column.get("key")]
    end = partitions.get("end")
    return ScheduledScoring(
        expression=scheduler_cron(schedule.get("cron") or USUAL_CRONS[partitions.get("kind", "daily")]),
        is_running=bool(schedule.get("running", False)),
        partitions=PartitionSchedule(
            schedule.get("partition", "ended"),
            # YAML has dates, which Dagster's loader reads as text.
            Partition(str(partitions["start"])),
            None if end is None else Partition(str(end)),
        ),
        history_days=attributes.get("history_days", 14),
        lookback=attributes.get("lookback", 7),
        schema=PredictionSchema(
            tuple(
                Column(column["name"], ColumnType.parse(column["type"]), column.get("nullable", True))
                for column in columns
            ),
            keys[0] if len(keys) == 1 else "",
        ),
        cleaning=Cleaning(tuple(_rule(declared) for declared in attributes.get("cleaning") or ())),
        tolerance=QuarantineTolerance(
            rows=quality.get("quarantine_rows"),
            # As text, because a YAML float is a binary one.
            rate=None if rate is None else Decimal(str(rate)),
        ),
        instance_type=compute.get("instance_type", "ml.m5.xlarge"),
        volume_gb=compute.get("volume_gb", 30),
        max_runtime_seconds=compute.get("max_runtime_seconds", 3600),
    )


def _rule(declared: Mapping[str, Any]) -> ColumnCleaning:
    members = {name: value for name, value in declared.items() if name != "clamp"}
    members |= declared.get("clamp") or {}
    for name in members.keys() & {"default", "minimum", "maximum"}:
        members[name] = None if members[name] is None else literal_text(members[name])
    return ColumnCleaning(**members)
