"""Builds and parses every key and prefix of the data bucket.

All results are relative to the bucket. Arguments are validated, so every key stays below its prefix.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_OBJECT_KEY_BYTES
from prediction_contract.naming.batch import BatchId, ModelName, Partition, validated_attempt

if TYPE_CHECKING:
    from datetime import date

BUCKET_PATTERN = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
# Messages between a Dagster run and its job while both run.
PIPES_PREFIX = "pipes/"
# The plan for all hosts of a score job, below its attempt's prefix, or for all steps of a retraining.
PLAN_NAME = "plan.json"
# JSON parts and Delta tables. Snowflake may read only these.
PREDICTIONS_PREFIX = "predictions/"
# These are below a retraining's prefix, beside its plan.
RANGE_NAME, VERDICT_NAME = "range.json", "verdict.json"

_BUCKET = re.compile(BUCKET_PATTERN)
# Delta's log does not escape these characters.
_PLAIN_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_RUN_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_DONE_KEY = re.compile("done/([^/]+)/([^/]+)/([^/]+)[.]json")
# None of these characters is special in a shell, an SQL literal, a URL or a path pattern of Spark.
KEY_SEGMENT_PATTERN = "[A-Za-z0-9_.=+:@,-]+"

_KEY_SEGMENT = re.compile(KEY_SEGMENT_PATTERN)
_MAX_PARTS = 100_000
_VERSION_DIGITS = 6
HIGHEST_VERSION = 10**_VERSION_DIGITS - 1


class DoneKey(NamedTuple):
    """The parts of a done file's key.

    Attributes:
        date: The UTC date of the batch id, for example `2013-02-01`.
        model: The model's name.
        batch_id: The batch.
    """

    date: str
    model: ModelName
    batch_id: BatchId


def features_prefix(model: str, partition: str, run_id: str) -> str:
    """Return the prefix of the features of a partition that one run writes.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{partition_features_prefix(model, partition)}run={validated_run_id(run_id)}/"


def model_features_prefix(model: str) -> str:
    """Return the prefix of the features of all partitions.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"features/{ModelName(model)}/"


def partition_features_prefix(model: str, partition: str) -> str:
    """Return the prefix of the features of a partition from all runs.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{model_features_prefix(model)}{Partition(partition).path}/"


def json_partition_prefix(model: str, partition: str) -> str:
    """Return the prefix of the JSON parts of all batches of a partition, one `batch=<batch_id>/` for each.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{PREDICTIONS_PREFIX}{ModelName(model)}/json/{Partition(partition).path}/"


def json_batch_prefix(model: str, partition: str, batch_id: str) -> str:
    """Return the prefix of all JSON parts of a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{json_partition_prefix(model, partition)}batch={BatchId(batch_id)}/"


def json_attempt_prefix(model: str, partition: str, batch_id: str, attempt: int) -> str:
    """Return the prefix of everything that one attempt at a batch writes outside the Delta table.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{json_batch_prefix(model, partition, batch_id)}attempt={validated_attempt(attempt)}/"


def json_part_key(model: str, partition: str, batch_id: str, attempt: int, *, share: str, number: int) -> str:
    """Return the key of a share's JSON part in one attempt, `.../<share>-00000.jsonl.gz`, counting from 0.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    prefix = json_attempt_prefix(model, partition, batch_id, attempt)
    return f"{prefix}{validated_share(share)}-{_part_number(number)}.jsonl.gz"


def pinned_model_key(model: str, partition: str, batch_id: str) -> str:
    """Return the key of the document that names the trained model of all attempts at a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{json_batch_prefix(model, partition, batch_id)}model.json"


def candidates_prefix(model: str) -> str:
    """Return the prefix of the archives from retraining, with one `<training job>/output/` for each.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"models/{ModelName(model)}/candidates/"


def retraining_prefix(model: str, execution_id: str) -> str:
    """Return the prefix of the plan and the verdict of one execution of the retraining pipeline.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"models/{ModelName(model)}/retraining/{validated_run_id(execution_id)}/"


def retraining_claim_key(model: str, digest: str) -> str:
    """Return the key of the claim that lets only one execution retrain on a range with a code version.

    Args:
        model: The model's name.
        digest: The digest of range, code and attempt.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"models/{ModelName(model)}/retraining/claims/{_validated_segment(digest, 'claim')}.json"


def accuracy_prefix(model: str) -> str:
    """Return the prefix of the measured accuracies of all batches of a model.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"models/{ModelName(model)}/accuracy/"


def accuracy_key(model: str, partition: str, batch_id: str) -> str:
    """Return the key of the measured accuracy of a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{accuracy_prefix(model)}{Partition(partition).path}/{BatchId(batch_id)}.json"


def shadow_prefix(model: str, version: int, partition: str) -> str:
    """Return the prefix of a challenger's predictions for a partition; loads do not read below `shadow/`.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"shadow/{ModelName(model)}/{version_text(version)}/{Partition(partition).path}/"


def challenger_comparison_key(model: str, version: int, partition: str, batch_id: str) -> str:
    """Return the key of the comparison of a challenger's predictions with those of a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{shadow_prefix(model, version, partition)}{BatchId(batch_id)}/comparison.json"


def version_text(version: int) -> str:
    """Return a model version's number with leading zeros, for keys and Dagster's partitions.

    Raises:
        InvalidNameError: It is not between 1 and `HIGHEST_VERSION`.
    """
    if not 1 <= version <= HIGHEST_VERSION:
        raise InvalidNameError(f"{version} is not a model version's number", remedy="Count from 1")
    return f"{version:0{_VERSION_DIGITS}d}"


def receipt_name(share: str) -> str:
    """Return the name of a share's receipt, below its attempt's prefix.

    Raises:
        InvalidNameError: The share's name is invalid.
    """
    return f"receipts/{validated_share(share)}.json"


def share_keys_name(share: str) -> str:
    """Return the name of the file with the digests of a share's row keys, below its attempt's prefix.

    Raises:
        InvalidNameError: The share's name is invalid.
    """
    return f"keys/{validated_share(share)}"


def progress_name(host: str) -> str:
    """Return the name of a host's progress report, below its attempt's prefix.

    Raises:
        InvalidNameError: The host's name is invalid.
    """
    return f"progress/{_validated_segment(host, 'host')}.json"


def data_file_prefix(batch_id: str, attempt: int) -> str:
    """Return the prefix of the data files of one attempt at a batch, relative to the Delta table.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{BatchId(batch_id)}/{validated_attempt(attempt)}/"


def data_file_path(batch_id: str, attempt: int, share: str, number: int) -> str:
    """Return the path of a share's data file, counting from 0, relative to the Delta table.

    It contains only letters, digits, `-`, `_`, `.` and `/`, which Delta's log does not escape.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    prefix = data_file_prefix(batch_id, attempt)
    return f"{prefix}{validated_share(share)}-{_part_number(number)}.parquet"


def delta_table_prefix(model: str) -> str:
    """Return the root of the model's Delta table, which holds all its batches.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"{PREDICTIONS_PREFIX}{ModelName(model)}/delta/"


def done_key(model: str, batch_id: str) -> str:
    """Return the key of a batch's manifest.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    minted = BatchId(batch_id)
    return f"{done_prefix(minted.date)}{ModelName(model)}/{minted}.json"


def done_prefix(day: date | str) -> str:
    """Return the prefix of the manifests of all models' batches minted on a UTC date.

    Raises:
        InvalidNameError: The text is not a date of the form `2013-02-01`.
    """
    text = day if isinstance(day, str) else day.isoformat()[:10]
    unit = Partition(text).kind.unit
    if unit != "day":
        raise InvalidNameError(f"{text!r} is not a date but a {unit}", remedy="Name a day, as 2013-02-01")
    return f"done/{text}/"


def parse_done_key(key: str) -> DoneKey:
    """Return date, model and batch id of a manifest's key.

    Raises:
        InvalidNameError: The key does not have the form of `done_key`.
    """
    found = _DONE_KEY.fullmatch(key)
    if found:
        parts = DoneKey(found[1], ModelName(found[2]), BatchId(found[3]))
        if key == done_key(parts.model, parts.batch_id):
            return parts
    raise InvalidNameError(
        f"{key[:200]!r} is not the key of a done file",
        remedy="Write it to done/<UTC date of the batch id>/<model>/<batch id>.json",
    )


def schema_key(model: str, content: bytes) -> str:
    """Return the key of a model's schema document, which contains the digest of its content.

    Args:
        model: The model's name.
        content: The document's canonical bytes.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"models/{ModelName(model)}/schema-{hashlib.sha256(content).hexdigest()[:16]}.json"


def report_key(model: str, batch_id: str, attempt: int) -> str:
    """Return the key of the report of one attempt to load a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{reports_prefix(model, batch_id)}load-{validated_attempt(attempt)}.json"


def reports_prefix(model: str, batch_id: str) -> str:
    """Return the prefix of all load reports of a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"reports/{ModelName(model)}/{BatchId(batch_id)}/"


def acknowledgement_key(model: str, batch_id: str, number: int) -> str:
    """Return the key of the record that DynamoDB acknowledged all rows of a JSON part, counting from 0.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{reports_prefix(model, batch_id)}acknowledged/part-{_part_number(number)}.json"


def acknowledgements_prefix(model: str, batch_id: str) -> str:
    """Return the prefix of these records for all JSON parts of a batch (`acknowledgement_key`).

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{reports_prefix(model, batch_id)}acknowledged/"


def batch_quarantine_prefix(model: str, batch_id: str) -> str:
    """Return the prefix of the rows that all attempts to load a batch refused.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"quarantine/{ModelName(model)}/batch={BatchId(batch_id)}/"


def quarantine_prefix(model: str, batch_id: str, attempt: int) -> str:
    """Return the prefix of the rows that one attempt to load a batch refused.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{batch_quarantine_prefix(model, batch_id)}attempt={validated_attempt(attempt)}/"


def quarantine_key(model: str, batch_id: str, attempt: int, number: int) -> str:
    """Return the key of one part of the quarantine, counting from 0.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{quarantine_prefix(model, batch_id, attempt)}part-{_part_number(number)}.jsonl.gz"


def validated_run_id(run_id: str) -> str:
    """Return a run's id if it can be used in a key.

    Raises:
        InvalidNameError: It is empty, too long, or has unsafe characters.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidNameError(
            f"{run_id[:80]!r} cannot name a run in a key",
            remedy="Use at most 128 letters, digits, '-' and '_', beginning with a letter or digit",
        )
    return run_id


def validated_share(share: str) -> str:
    """Return a share's name if it can be used in keys.

    Raises:
        InvalidNameError: It is empty, too long, or has characters that are unsafe in a data file's path.
    """
    return _validated_segment(share, "share")


def validated_bucket(name: str) -> str:
    """Return a bucket's name if it is valid.

    Raises:
        InvalidNameError: S3 does not allow the name.
    """
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"{name[:80]!r} is not the name of a bucket", remedy="Pass the bucket's name alone, without s3://"
        )
    return name


def validated_key(key: str) -> str:
    """Return a key, or a path below a table, if all its segments are plain.

    Raises:
        InvalidNameError: It is empty or too long, begins with `/`, or has a segment that is empty, `.` or
            `..`, or contains characters other than letters, digits and `_.=+:@,-`.
    """
    if len(key) <= MAX_OBJECT_KEY_BYTES and all(map(_is_plain_segment, key.split("/"))):
        return key
    raise InvalidNameError(
        f"{key[:200]!r} is not a safe key",
        remedy="Use plain path segments relative to the bucket or table, without '..' and without a scheme",
    )


def _validated_segment(name: str, what: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        raise InvalidNameError(
            f"{name[:80]!r} cannot name a {what} in a key",
            remedy="Use at most 80 letters, digits, '-', '_' and '.', beginning with a letter or digit",
        )
    return name


def _is_plain_segment(segment: str) -> bool:
    return segment not in {"", ".", ".."} and _KEY_SEGMENT.fullmatch(segment) is not None


def _part_number(number: int) -> str:
    if not 0 <= number < _MAX_PARTS:
        raise InvalidNameError(
            f"{number} is not the number of a part", remedy=f"Count parts from 0 to {_MAX_PARTS - 1}"
        )
    return f"{number:05d}"
