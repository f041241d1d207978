"""The arguments of a retraining pipeline's jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prediction_contract.jobs.argument_parsing import JobArguments, argument, matching, whole
from prediction_contract.jobs.job_arguments import WORD, parsed_schedule, parsed_time
from prediction_contract.naming.batch import ModelName, Partition
from prediction_contract.naming.s3_layout import validated_bucket, validated_key, validated_run_id

# Defaults of pipeline parameters. A parameter must have a default, which cannot be empty.
NEWEST, NONE = "newest", "none"
CAUSES = ("schedule", "drift", "accuracy", "request")

_NAME_OF_PERSON = matching(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/=+@-]{0,127}"), "the name of a person or a run"
)
_S3_URI = matching(re.compile("s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.{1,900}"), "an address of S3")


def _partition_or_newest(text: str) -> str:
    return text if text == NEWEST else str(Partition(text))


def _time_or_none(text: str) -> str:
    return text if text == NONE else parsed_time(text)


def _cause(text: str) -> str:
    if text not in CAUSES:
        raise ValueError(f"it is not one of {', '.join(CAUSES)}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingStepArguments(JobArguments):
    """The arguments of every job of a retraining pipeline.

    Attributes:
        model: The model's name.
        bucket: The bucket of features, plans and models.
        execution_id: The pipeline execution.
        code_version: The version of the code that runs.
        inputs_key: The S3 key of the JSON document of the model's `ModelInputs`.
        schema_key: The S3 key of the JSON document of the predictions' schema.
    """

    model: str = argument(ModelName)
    bucket: str = argument(validated_bucket)
    execution_id: str = argument(validated_run_id)
    code_version: str = argument(WORD)
    inputs_key: str = argument(validated_key)
    schema_key: str = argument(validated_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRetrainingArguments(RetrainingStepArguments):
    """The arguments of the job that plans a retraining and prepares its features.

    Attributes:
        window: The maximum number of partitions to train on.
        held_out: The number of later partitions to judge on.
        gap: The number of partitions to leave out between training and judging.
        registry_table: The registry's DynamoDB table, which names the champion.
        schedule: The text of the model's `PartitionSchedule`.
        last_partition: The last partition to judge on; `newest` for the newest one with known outcomes.
        scheduled_at: The time of the schedule's tick; `none` if no schedule started the execution.
        attempt: The number of the attempt at the same range and code, counting from 1.
        cause: One of `CAUSES`.
        requested_by: The person or run that asked for the retraining; `none` if there is none.
    """

    window: int = argument(whole(1))
    held_out: int = argument(whole(1))
    gap: int = argument(whole(0))
    registry_table: str = argument(WORD)
    schedule: str = argument(parsed_schedule)
    last_partition: str = argument(_partition_or_newest, NEWEST)
    scheduled_at: str = argument(_time_or_none, NONE)
    attempt: int = argument(whole(1), 1)
    cause: str = argument(_cause, "request")
    requested_by: str = argument(_NAME_OF_PERSON, NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeArguments(RetrainingStepArguments):
    """The arguments of the job that compares a candidate with the champion.

    Attributes:
        candidate: The S3 address of the candidate's archive.
    """

    candidate: str = argument(_S3_URI)
