"""The arguments of the Glue and SageMaker jobs, built by the starter and parsed by the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from prediction_contract.jobs.argument_parsing import JobArguments, argument, matching, refuse_argument, whole
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.limits import MAX_ENVIRONMENT_VALUE_CHARACTERS, MAX_ENVIRONMENT_VARIABLES
from prediction_contract.naming.batch import BatchId, ModelName, Partition
from prediction_contract.naming.s3_layout import (
    HIGHEST_VERSION,
    validated_bucket,
    validated_key,
    validated_run_id,
)
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.text.utc_time import parse_utc

# Linux starts no process with a longer argument.
LONGEST_ARGUMENT = 131_071
# A job run that waits for files costs money and blocks another one.
MAX_WAIT_MINUTES = 30

VERIFY_MODES = ("full", "sample", "scan")

_ENVIRONMENT_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,255}")

# Characters of ARNs, addresses and names. No spaces and no leading '-', so that a value stays a value.
WORD = matching(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/=+@,-]{0,254}"),
    "1 to 255 letters, digits and '_.:/=+@,-', beginning with a letter, digit or '_'",
)
_IDENTIFIER = matching(
    re.compile("[A-Za-z_][A-Za-z0-9_]{0,127}"), "an identifier of letters, digits and underscores"
)
_BASE64 = matching(
    re.compile(f"[A-Za-z0-9_=-]{{1,{LONGEST_ARGUMENT}}}"),
    f"text in Base64 of at most {LONGEST_ARGUMENT} characters",
)
_DIGEST = matching(re.compile("[0-9a-f]{64}"), "a SHA-256 in lower-case hex")


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text) if re.fullmatch("[0-9.]{1,40}", text) else Decimal("NaN")
    except InvalidOperation:
        rate = Decimal("NaN")
    if rate.is_nan() or not 0 <= rate <= 1:
        raise ValueError("it is not a number from 0 to 1 such as 0.001")
    return rate


def _verify_mode(text: str) -> str:
    if text not in VERIFY_MODES:
        raise ValueError(f"it is not one of {', '.join(VERIFY_MODES)}")
    return text


def parsed_time(text: str) -> str:
    """Return the text unchanged if it is a UTC time."""
    parse_utc(text)
    return text


def parsed_schedule(text: str) -> str:
    """Return the text unchanged if it is a partition schedule."""
    PartitionSchedule.parse(text)
    return text


def _prefix(text: str) -> str:
    if not text.endswith("/"):
        raise ValueError("it is not a prefix that ends with '/'")
    validated_key(text[:-1])
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadArguments(JobArguments):
    """The arguments of the Glue job that loads a batch.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        bucket: The bucket of the manifest and of all objects in it.
        manifest_key: The key of the manifest.
        manifest_digest: The digest of the manifest when the load was claimed.
        claim_token: The token of the claim that was made for this job run.
        load_attempt: The load attempt, counting from 1.
        registry_table: The DynamoDB table of the registry.
        online_table: The DynamoDB table of the model.
        items_expire_at: When the items expire, in seconds since 1970.
        snowflake_secret: The secret that holds the Snowflake connection.
        snowflake_database: The database of the model's table.
        snowflake_schema: The schema of the model's table.
        snowflake_warehouse: The virtual warehouse that runs the load.
        snowflake_stage: The external stage on the bucket's predictions.
        snowflake_integration: The storage integration of the stage.
        report_key: The S3 key for the load report.
        verify: `full` reads every row back, `sample` some rows. `scan` does the same as `full` and also scans
            the online table for items that do not belong to the batch.
        quarantine_rows: The declared number of rows that may be refused; None if none is declared.
        quarantine_rate: The declared share of the rows that may be refused; None if none is declared.
        max_write_units_per_second: The limit of DynamoDB write units for the whole job; None for no limit.
        wait_minutes: How long after the done file the batch's files may arrive; None for no wait.
        cleaning: The model's cleaning rules in the form of `Cleaning.to_argument`; None for none.
        dagster_run_id: The run that waits for the job run; None outside Dagster.
    """

    model: str = argument(ModelName)
    batch_id: str = argument(BatchId)
    bucket: str = argument(validated_bucket)
    manifest_key: str = argument(validated_key)
    manifest_digest: str = argument(_DIGEST)
    claim_token: str = argument(WORD)
    load_attempt: int = argument(whole(1))
    registry_table: str = argument(WORD)
    online_table: str = argument(WORD)
    items_expire_at: int = argument(whole(1))
    snowflake_secret: str = argument(WORD)
    snowflake_database: str = argument(_IDENTIFIER)
    snowflake_schema: str = argument(_IDENTIFIER)
    snowflake_warehouse: str = argument(_IDENTIFIER)
    snowflake_stage: str = argument(_IDENTIFIER)
    snowflake_integration: str = argument(_IDENTIFIER)
    report_key: str = argument(validated_key)
    verify: str = argument(_verify_mode, "full")
    quarantine_rows: int | None = argument(whole(0), None)
    quarantine_rate: Decimal | None = field(default=None, metadata={"parse": _rate})
    max_write_units_per_second: int | None = argument(whole(1), None)
    wait_minutes: int | None = argument(whole(0, MAX_WAIT_MINUTES), None)
    cleaning: str | None = argument(_BASE64, None)
    dagster_run_id: str | None = argument(WORD, None)

    @property
    def tolerance(self) -> QuarantineTolerance:
        """The number of rows of the batch that may be refused."""
        return QuarantineTolerance(rows=self.quarantine_rows, rate=self.quarantine_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionArguments(JobArguments):
    """The partition of a job, either by name or by the tick of a schedule.

    Attributes:
        model: The model's name.
        partition: The partition; None if a schedule starts the job.
        scheduled_at: The time of the tick, as `2013-02-03T01:00:00Z`; None if the partition is named.
        schedule: The text of the model's `PartitionSchedule`; None if the partition is named.
    """

    model: str = argument(ModelName)
    partition: str | None = argument(Partition, None)
    scheduled_at: str | None = argument(parsed_time, None)
    schedule: str | None = argument(parsed_schedule, None)

    def _require_consistency(self) -> None:
        if self.partition is None and self.scheduled_at is None:
            refuse_argument("partition", "it is missing, and so is scheduled_at")
        if self.partition is not None and self.scheduled_at is not None:
            refuse_argument("scheduled_at", "the partition is named already")
        if (self.scheduled_at is None) != (self.schedule is None):
            refuse_argument("schedule", "it belongs to scheduled_at, so both or neither must be given")

    def due_partition(self) -> Partition:
        """Return the named partition, or the partition that is due at the tick.

        Raises:
            JobArgumentsError: The due partition is not one of the model's.
        """
        if self.partition is not None:
            return Partition(self.partition)
        schedule = PartitionSchedule.parse(str(self.schedule))
        due = schedule.due_partition(parse_utc(str(self.scheduled_at)))
        if not schedule.has(due):
            end = "" if schedule.end is None else f" and end before {schedule.end}"
            refuse_argument(
                "scheduled_at",
                f"{due} is due then, but is not a partition of {self.model}: `partitions` in its defs.yaml "
                f"begin with {schedule.start}{end}",
            )
        return due


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureArguments(PartitionArguments):
    """The arguments of the processing job that prepares features, in addition to model and partition.

    Attributes:
        bucket: The bucket for features, and for sources that name no other bucket.
        run_id: The name of the folder, below the partition, that this run writes.
        code_version: The version of the code that runs.
        last_partition: The last of several partitions to prepare; None to prepare only `partition`.
        inputs_key: The S3 key of the JSON document of the model's `ModelInputs`.
    """

    bucket: str = argument(validated_bucket)
    run_id: str = argument(validated_run_id)
    code_version: str = argument(WORD)
    inputs_key: str = argument(validated_key)
    last_partition: str | None = argument(Partition, None)

    def _require_consistency(self) -> None:
        # A plain super() fails, because `slots=True` creates a new class.
        super(FeatureArguments, self)._require_consistency()
        if self.last_partition is not None and self.partition is None:
            refuse_argument("last_partition", "it needs partition, because a tick makes one partition due")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreArguments(PartitionArguments):
    """The arguments of the processing job that scores a batch, in addition to model and partition.

    Attributes:
        bucket: The bucket of features and predictions.
        lookback: How many earlier partitions to search for the previous batch; 0 for no previous batch.
        schema_key: The S3 key of the JSON document of the predictions' schema, in a manifest's form.
        inputs_key: The S3 key of the JSON document of the model's `ModelInputs`.
        registry_table: The registry's DynamoDB table, which tells which batches were refused or withdrawn.
        code_version: The version of the code that runs.
        batch_id: The batch; None if the job mints the id from its own ARN and creation time.
        attempt: The attempt, counting from 1.
        version: The registered model version, which must have been approved; None for the champion, or for
            the file that the declaration names.
        features_prefix: The prefix of one run's features; None for the newest features of the partition.
        run_id: The run, for example a pipeline execution, whose features are scored. All score jobs of a run
            are attempts at one batch. None if the batch is given, or if each job mints its own batch.
        chunk_rows: The maximum number of rows per call of `predict`; None to derive it from the row width.
        quarantine_rows: As in `LoadArguments`.
        quarantine_rate: As in `LoadArguments`.
    """

    bucket: str = argument(validated_bucket)
    lookback: int = argument(whole(0))
    schema_key: str = argument(validated_key)
    registry_table: str = argument(WORD)
    code_version: str = argument(WORD)
    inputs_key: str = argument(validated_key)
    batch_id: str | None = argument(BatchId, None)
    attempt: int = argument(whole(1), 1)
    version: int | None = argument(whole(1, HIGHEST_VERSION), None)
    features_prefix: str | None = argument(_prefix, None)
    run_id: str | None = argument(validated_run_id, None)
    chunk_rows: int | None = argument(whole(1), None)
    quarantine_rows: int | None = argument(whole(0), None)
    quarantine_rate: Decimal | None = field(default=None, metadata={"parse": _rate})

    @property
    def tolerance(self) -> QuarantineTolerance:
        """How many rows of the batch may be refused."""
        return QuarantineTolerance(rows=self.quarantine_rows, rate=self.quarantine_rate)

    def _require_consistency(self) -> None:
        super(ScoreArguments, self)._require_consistency()
        if self.run_id is None:
            return
        if self.batch_id is not None or self.features_prefix is not None or self.attempt != 1:
            refuse_argument("run_id", "batch_id, attempt and features_prefix follow from it")


def container_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return a SageMaker job's environment after checking SageMaker's limits.

    Raises:
        JobArgumentsError: A name is invalid, a value has more than 256 characters, or there are more than 100
            variables.
    """
    if len(values) > MAX_ENVIRONMENT_VARIABLES:
        refuse_argument(
            "environment", f"it has {len(values)} variables; at most {MAX_ENVIRONMENT_VARIABLES} are allowed"
        )
    for name, text in values.items():
        if not _ENVIRONMENT_NAME.fullmatch(name):
            refuse_argument(
                name[:80], "SageMaker allows only letters, digits and underscores in a variable's name"
            )
        if len(text) > MAX_ENVIRONMENT_VALUE_CHARACTERS:
            refuse_argument(
                name, f"its value has {len(text)} characters of {MAX_ENVIRONMENT_VALUE_CHARACTERS}"
            )
    return dict(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyArguments(JobArguments):
    """The arguments of the job that measures the accuracy of a batch.

    Attributes:
        model: The model's name.
        bucket: The bucket of the batch, the features and the resulting document.
        batch_id: The batch, which must have its done file.
        registry_table: The registry's DynamoDB table, which has the cleaning rules of the load.
        inputs_key: The S3 key of the JSON document of the model's `ModelInputs`.
        code_version: The version of the code that runs.
    """

    model: str = argument(ModelName)
    bucket: str = argument(validated_bucket)
    batch_id: str = argument(BatchId)
    registry_table: str = argument(WORD)
    inputs_key: str = argument(validated_key)
    code_version: str = argument(WORD)
