"""The arguments of our Glue and SageMaker jobs: built where a job is started, parsed where it runs.

An argument is `--name value`, both on Glue and as a container argument of SageMaker; the name is that of the
field. Arguments of other names, which Glue adds, are left alone. None is not passed at all.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Never, Self

from prediction_contract.errors import ContractError, JobArgumentsError
from prediction_contract.jobs.metrics import Metrics
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.jobs.quarantine_tolerance import QuarantineTolerance
from prediction_contract.limits import (
    MAX_CONTAINER_ARGUMENT_CHARACTERS,
    MAX_CONTAINER_ARGUMENTS,
    MAX_ENVIRONMENT_VALUE_CHARACTERS,
    MAX_ENVIRONMENT_VARIABLES,
)
from prediction_contract.manifests.manifest_reader import LARGEST_NUMBER
from prediction_contract.naming.batch import BatchId, ModelName, Partition
from prediction_contract.naming.s3_layout import validated_bucket, validated_key, validated_run_id
from prediction_contract.text.utc_time import parse_utc

# Linux starts no process with a longer one.
LONGEST_ARGUMENT = 131_071
# A job run that waits for files is paid for, and takes the place of another.
MAX_WAIT_MINUTES = 30

VERIFY_MODES = ("full", "sample", "scan")

# Anything a shell, an SQL statement or an ARN may hold, but no spaces and no leading '-': values stay values.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/=+@,-]{0,254}")
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]{0,127}")
_DIGEST = re.compile("[0-9a-f]{64}")
_ENVIRONMENT_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,255}")


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"it is not {what}")
        return text

    return parse


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    highest = LARGEST_NUMBER if most is None else most
    allowed = f"{least}" if most is None else f"{least} to {most}"

    def parse(text: str) -> int:
        if re.fullmatch("0|[1-9][0-9]{0,18}", text) and least <= int(text) <= highest:
            return int(text)
        raise ValueError(f"it is not an integer from {allowed}")

    return parse


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text) if re.fullmatch("[0-9.]{1,40}", text) else Decimal("NaN")
    except InvalidOperation:
        rate = Decimal("NaN")
    if rate.is_nan() or not 0 <= rate <= 1:
        raise ValueError("it is not a number from 0 to 1, say 0.001")
    return rate


def _verify_mode(text: str) -> str:
    if text not in VERIFY_MODES:
        raise ValueError(f"it is not one of {', '.join(VERIFY_MODES)}")
    return text


def _moment(text: str) -> str:
    parse_utc(text)
    return text


def _schedule(text: str) -> str:
    PartitionSchedule.parse(text)
    return text


def _prefix(text: str) -> str:
    if not text.endswith("/"):
        raise ValueError("it is not a prefix that ends with '/'")
    validated_key(text[:-1])
    return text


def _argument(parse: Callable[[str], Any], default: Any = MISSING) -> Any:
    """Declare an argument by the function that parses its text."""
    return field(default=default, metadata={"parse": parse})


_WORD_FORM = _matching(
    _WORD, "1 to 255 letters, digits and '_.:/=+@,-', beginning with a letter, digit or '_'"
)
_IDENTIFIER_FORM = _matching(_IDENTIFIER, "an identifier of letters, digits and underscores")
_BASE64_FORM = _matching(
    re.compile(f"[A-Za-z0-9_=-]{{1,{LONGEST_ARGUMENT}}}"),
    f"text in Base64 of at most {LONGEST_ARGUMENT} characters",
)
_DIGEST_FORM = _matching(_DIGEST, "a SHA-256 in lower-case hex")


class JobArguments:
    """Shared by all jobs: building and parsing by the fields of the job's own class."""

    def __post_init__(self) -> None:
        texts = self._texts()
        for declared in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if declared.name in texts:
                self._parsed(declared.name, texts[declared.name])
            elif declared.default is not None:
                _refuse(declared.name, "it is missing")
        self._require_consistency()

    def _require_consistency(self) -> None:
        """Refuse arguments that contradict one another; a job whose arguments can says how."""

    def glue_arguments(self) -> dict[str, str]:
        """Return the arguments as Glue's StartJobRun takes them: `{"--model": "flight_delay", ...}`."""
        return {f"--{name}": text for name, text in self._texts().items()}

    def container_arguments(self) -> list[str]:
        """Return the arguments as a SageMaker container takes them: `["--model", "flight_delay", ...]`.

        Raises:
            JobArgumentsError: SageMaker would refuse them: more than 100, or one of more than 256 characters.
        """
        arguments = [text for pair in self.glue_arguments().items() for text in pair]
        if len(arguments) > MAX_CONTAINER_ARGUMENTS:
            _refuse("arguments", f"they are {len(arguments)} of {MAX_CONTAINER_ARGUMENTS}")
        for name, text in self._texts().items():
            if len(text) > MAX_CONTAINER_ARGUMENT_CHARACTERS:
                _refuse(name, f"it has {len(text)} characters of {MAX_CONTAINER_ARGUMENT_CHARACTERS}")
        return arguments

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Return the arguments of a job's command line; arguments that are not this job's are left alone.

        Args:
            argv: The command line without the program, as `sys.argv[1:]`.

        Raises:
            JobArgumentsError: One is missing, stands without a value, or has another form.
        """
        parser = _Parser(add_help=False, allow_abbrev=False)
        for declared in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            parser.add_argument(f"--{declared.name}", dest=declared.name)
        given = vars(parser.parse_known_args(list(argv))[0])
        values: dict[str, Any] = {}
        for declared in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            text = given[declared.name]
            if text is not None:
                values[declared.name] = cls._parsed(declared.name, text)
            elif declared.default is MISSING:
                _refuse(declared.name, "it is missing")
        return cls(**values)

    def _texts(self) -> dict[str, str]:
        values = {
            declared.name: getattr(self, declared.name)
            for declared in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
        }
        return {
            name: format(value, "f") if isinstance(value, Decimal) else str(value)
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def _parsed(cls, name: str, text: str) -> Any:
        declared = next(
            declared
            for declared in fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
            if declared.name == name
        )
        if text.startswith("-"):
            _refuse(name, "it begins with '-', and would be taken for the next argument's name")
        try:
            return declared.metadata["parse"](text)
        except ContractError as error:
            _refuse(name, error.what, error)
        except ValueError as error:
            _refuse(name, str(error), error)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadArguments(JobArguments):
    """What the Glue job that loads a batch is told.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        bucket: The bucket of the manifest and of everything it names.
        manifest_key: The key of the manifest.
        manifest_digest: The digest that the load was claimed for.
        claim_token: Proof that this job run is the one that was claimed.
        load_attempt: Counts from 1.
        registry_table: The DynamoDB table of the registry.
        online_table: The DynamoDB table of the model.
        items_expire_at: The items' TTL, seconds since 1970.
        snowflake_secret: The secret that holds the Snowflake connection.
        snowflake_database: The database of the model's table.
        snowflake_schema: The schema of the model's table.
        snowflake_warehouse: The virtual warehouse that runs the load.
        snowflake_stage: The external stage on the bucket's predictions.
        snowflake_integration: The storage integration that the stage reads the bucket through.
        report_key: Where the report goes.
        verify: `full` reads every row back, `sample` some; `scan` does as `full`, and then looks through the
            whole online table for items that the batch does not have.
        quarantine_rows: The declared number of rows that may be refused; None if none is declared.
        quarantine_rate: The declared share of the rows that may be refused; None if none is declared.
        max_write_units_per_second: Of DynamoDB, by the whole job; None for no limit.
        wait_minutes: How long after its done file was put the batch's files may arrive; None for no wait.
        cleaning: The model's cleaning rules, as `Cleaning.to_argument` writes them; None for none.
        dagster_run_id: The run that waits for the job run; None outside Dagster.
    """

    model: str = _argument(ModelName)
    batch_id: str = _argument(BatchId)
    bucket: str = _argument(validated_bucket)
    manifest_key: str = _argument(validated_key)
    manifest_digest: str = _argument(_DIGEST_FORM)
    claim_token: str = _argument(_WORD_FORM)
    load_attempt: int = _argument(_whole(1))
    registry_table: str = _argument(_WORD_FORM)
    online_table: str = _argument(_WORD_FORM)
    items_expire_at: int = _argument(_whole(1))
    snowflake_secret: str = _argument(_WORD_FORM)
    snowflake_database: str = _argument(_IDENTIFIER_FORM)
    snowflake_schema: str = _argument(_IDENTIFIER_FORM)
    snowflake_warehouse: str = _argument(_IDENTIFIER_FORM)
    snowflake_stage: str = _argument(_IDENTIFIER_FORM)
    snowflake_integration: str = _argument(_IDENTIFIER_FORM)
    report_key: str = _argument(validated_key)
    verify: str = _argument(_verify_mode, "full")
    quarantine_rows: int | None = _argument(_whole(0), None)
    quarantine_rate: Decimal | None = field(default=None, metadata={"parse": _rate})
    max_write_units_per_second: int | None = _argument(_whole(1), None)
    wait_minutes: int | None = _argument(_whole(0, MAX_WAIT_MINUTES), None)
    cleaning: str | None = _argument(_BASE64_FORM, None)
    dagster_run_id: str | None = _argument(_WORD_FORM, None)

    @property
    def tolerance(self) -> QuarantineTolerance:
        """How many rows of the batch may be refused."""
        return QuarantineTolerance(rows=self.quarantine_rows, rate=self.quarantine_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionArguments(JobArguments):
    """What a job of one partition is told of it: its name, or the tick of a schedule that makes it due.

    Attributes:
        model: The model's name.
        partition: The partition; None where a schedule starts the job.
        scheduled_at: The tick's moment, as `2013-02-03T01:00:00Z`; None where the partition is named.
        schedule: The model's partitions and which is due, as `PartitionSchedule` is written.
    """

    model: str = _argument(ModelName)
    partition: str | None = _argument(Partition, None)
    scheduled_at: str | None = _argument(_moment, None)
    schedule: str | None = _argument(_schedule, None)

    def _require_consistency(self) -> None:
        if self.partition is None and self.scheduled_at is None:
            _refuse("partition", "it is missing, and so is scheduled_at")
        if self.partition is not None and self.scheduled_at is not None:
            _refuse("scheduled_at", "the partition is named already")
        if (self.scheduled_at is None) != (self.schedule is None):
            _refuse("schedule", "it belongs to scheduled_at, and neither is given without the other")

    def due_partition(self) -> Partition:
        """Return the partition that is named, or that the tick makes due.

        Raises:
            JobArgumentsError: The one that is due is none of the model's.
        """
        if self.partition is not None:
            return Partition(self.partition)
        schedule = PartitionSchedule.parse(str(self.schedule))
        due = schedule.due_partition(parse_utc(str(self.scheduled_at)))
        if not schedule.has(due):
            end = "" if schedule.end is None else f" and end before {schedule.end}"
            _refuse(
                "scheduled_at",
                f"{due} is due then, which is no partition of {self.model}: `partitions` in its defs.yaml "
                f"begin with {schedule.start}{end}",
            )
        return due


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureArguments(PartitionArguments):
    """What the processing job that prepares features is told, beside model and partition.

    Attributes:
        bucket: The bucket that raw data is read from and features are written to.
        history_days: How many days before the partition the model sees.
        run_id: Names the folder below the partition that this run writes.
        code_version: The version of the code that runs.
        last_partition: The last of several partitions to prepare in one job; None for the one alone.
        raw_prefix: The key prefix of the raw data set, ending with `/`.
    """

    bucket: str = _argument(validated_bucket)
    history_days: int = _argument(_whole(1))
    run_id: str = _argument(validated_run_id)
    code_version: str = _argument(_WORD_FORM)
    last_partition: str | None = _argument(Partition, None)
    raw_prefix: str = _argument(_prefix, "raw/nycflights13/")

    def _require_consistency(self) -> None:
        # A dataclass with slots is another class than the one that a plain super() knows.
        super(FeatureArguments, self)._require_consistency()
        if self.last_partition is not None and self.partition is None:
            _refuse("last_partition", "a tick makes one partition due")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreArguments(PartitionArguments):
    """What the processing job that scores a batch is told, beside model and partition.

    Attributes:
        bucket: The bucket that features are read from and predictions written to.
        lookback: How many partitions back the previous batch may lie; 0 for none.
        schema_key: The JSON document of the predictions' schema, as it stands in a manifest.
        registry_table: The DynamoDB table of the registry, asked which batches were refused or withdrawn.
        code_version: The version of the code that runs.
        batch_id: The batch; None where the job mints it from its own creation.
        attempt: Counts from 1.
        model_artifact_key: The trained model; None for the newest.
        features_prefix: The features of one run; None for the newest of the partition.
        run_id: The run, say a pipeline's execution, whose features are scored, and all of whose score jobs
            are attempts at one batch; None where batch and attempt are told, or each job is its own intent.
        quarantine_rows: As in `LoadArguments`.
        quarantine_rate: As in `LoadArguments`.
    """

    bucket: str = _argument(validated_bucket)
    lookback: int = _argument(_whole(0))
    schema_key: str = _argument(validated_key)
    registry_table: str = _argument(_WORD_FORM)
    code_version: str = _argument(_WORD_FORM)
    batch_id: str | None = _argument(BatchId, None)
    attempt: int = _argument(_whole(1), 1)
    model_artifact_key: str | None = _argument(validated_key, None)
    features_prefix: str | None = _argument(_prefix, None)
    run_id: str | None = _argument(validated_run_id, None)
    quarantine_rows: int | None = _argument(_whole(0), None)
    quarantine_rate: Decimal | None = field(default=None, metadata={"parse": _rate})

    @property
    def tolerance(self) -> QuarantineTolerance:
        """How many rows of the batch may be refused."""
        return QuarantineTolerance(rows=self.quarantine_rows, rate=self.quarantine_rate)

    def _require_consistency(self) -> None:
        super(ScoreArguments, self)._require_consistency()
        if self.run_id is None:
            return
        told = (self.batch_id, self.features_prefix, None if self.attempt == 1 else self.attempt)
        if told != (None, None, None):
            _refuse("run_id", "batch_id, attempt and features_prefix follow from it")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments(JobArguments):
    """What the training job is told.

    Attributes:
        model: The model's name.
        bucket: The bucket that features are read from.
        first_partition: The first partition to learn from.
        last_partition: The last partition to learn from, itself included.
        code_version: The version of the code that runs.
        first_evaluated: The first partition to evaluate the model on; None to evaluate it on none.
        last_evaluated: The last partition to evaluate the model on, itself included.
        metrics: By which it is evaluated, as `Metrics` takes them.
        schema_key: The JSON document of the predictions' schema, for the evaluation.
    """

    model: str = _argument(ModelName)
    bucket: str = _argument(validated_bucket)
    first_partition: str = _argument(Partition)
    last_partition: str = _argument(Partition)
    code_version: str = _argument(_WORD_FORM)
    first_evaluated: str | None = _argument(Partition, None)
    last_evaluated: str | None = _argument(Partition, None)
    metrics: str | None = _argument(Metrics, None)
    schema_key: str | None = _argument(validated_key, None)


def container_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return a SageMaker job's environment.

    Raises:
        JobArgumentsError: SageMaker would refuse a name, a value of more than 256 characters, or more than
            100 variables.
    """
    if len(values) > MAX_ENVIRONMENT_VARIABLES:
        _refuse("environment", f"it has {len(values)} variables of {MAX_ENVIRONMENT_VARIABLES}")
    for name, text in values.items():
        if not _ENVIRONMENT_NAME.fullmatch(name):
            _refuse(name[:80], "SageMaker allows letters, digits and underscores in a variable's name")
        if len(text) > MAX_ENVIRONMENT_VALUE_CHARACTERS:
            _refuse(name, f"its value has {len(text)} characters of {MAX_ENVIRONMENT_VALUE_CHARACTERS}")
    return dict(values)


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

    def error(self, message: str) -> Never:
        raise JobArgumentsError(
            f"The command line cannot be parsed: {message[:200]}", remedy="Start the job through its client"
        )


def _refuse(name: str, what: str, cause: Exception | None = None) -> Never:
    raise JobArgumentsError(
        f"Job argument {name} is wrong: {what}", remedy=f"Start the job again with a valid --{name}"
    ) from cause
