"""Where everything lies on S3: every key and prefix of the bucket is made and taken apart here.

All results are relative to the bucket. Arguments are validated, so no key ever leaves its own prefix.
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
# What a Dagster run and its job tell one another while both run.
PIPES_PREFIX = "pipes/"
# The plan that all hosts of a score job follow, below its attempt's prefix, or all steps of a retraining.
PLAN_NAME = "plan.json"
# JSON parts and Delta tables, all that Snowflake may read.
PREDICTIONS_PREFIX = "predictions/"
# Below a retraining's prefix, beside its plan.
RANGE_NAME, VERDICT_NAME = "range.json", "verdict.json"

_BUCKET = re.compile(BUCKET_PATTERN)
# Delta's log writes these characters as they are.
_PLAIN_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_RUN_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_DONE_KEY = re.compile("done/([^/]+)/([^/]+)/([^/]+)[.]json")
# None that a shell, an SQL literal, a URL or Spark's globbing of paths reads as more than itself.
KEY_SEGMENT_PATTERN = "[A-Za-z0-9_.=+:@,-]+"

_KEY_SEGMENT = re.compile(KEY_SEGMENT_PATTERN)
_MAX_PARTS = 100_000
_VERSION_DIGITS = 6
HIGHEST_VERSION = 10**_VERSION_DIGITS - 1


class DoneKey(NamedTuple):
    """What the key of a done file says.

    Attributes:
        date: The UTC date of the batch id, as `2013-02-01`.
        model: The model's name.
        batch_id: The batch.
    """

    date: str
    model: ModelName
    batch_id: BatchId


def features_prefix(model: str, partition: str, run_id: str) -> str:
    """Return the prefix below which one run writes the features of a partition.

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
    """Return the prefix of all runs' features of a partition.

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
    """Return the prefix below which all JSON parts of a batch must lie.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{json_partition_prefix(model, partition)}batch={BatchId(batch_id)}/"


def json_attempt_prefix(model: str, partition: str, batch_id: str, attempt: int) -> str:
    """Return the prefix of all that one attempt at a batch writes beside the Delta table.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{json_batch_prefix(model, partition, batch_id)}attempt={validated_attempt(attempt)}/"


def json_part_key(model: str, partition: str, batch_id: str, attempt: int, *, share: str, number: int) -> str:
    """Return the key of one JSON part of a share of one attempt, `<share>-00000.jsonl.gz` counting from 0.

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
    """Return the prefix of the archives that retraining makes, one `<training job>/output/` for each.

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
    """Return the key of what says which execution retrains on a range with a code.

    Args:
        model: The model's name.
        digest: Of range, code and attempt.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"models/{ModelName(model)}/retraining/claims/{_validated_segment(digest, 'claim')}.json"


def accuracy_prefix(model: str) -> str:
    """Return the prefix of how well all batches of a model foretold what became of them.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"models/{ModelName(model)}/accuracy/"


def accuracy_key(model: str, partition: str, batch_id: str) -> str:
    """Return the key of how well a batch foretold what became of it.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{accuracy_prefix(model)}{Partition(partition).path}/{BatchId(batch_id)}.json"


def shadow_prefix(model: str, version: int, partition: str) -> str:
    """Return the prefix of what a challenger predicted for a partition; no load reads below `shadow/`.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"shadow/{ModelName(model)}/{version_text(version)}/{Partition(partition).path}/"


def challenger_comparison_key(model: str, version: int, partition: str, batch_id: str) -> str:
    """Return the key of how a challenger's predictions compare with those of a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{shadow_prefix(model, version, partition)}{BatchId(batch_id)}/comparison.json"


def version_text(version: int) -> str:
    """Return a model version's number with leading zeros, as keys and Dagster's partitions have it.

    Raises:
        InvalidNameError: It is not from 1 to `HIGHEST_VERSION`.
    """
    if not 1 <= version <= HIGHEST_VERSION:
        raise InvalidNameError(f"{version} is not a model version's number", remedy="Count from 1")
    return f"{version:0{_VERSION_DIGITS}d}"


def receipt_name(share: str) -> str:
    """Return the name of the receipt of a share below its attempt's prefix.

    Raises:
        InvalidNameError: The share's name is invalid.
    """
    return f"receipts/{validated_share(share)}.json"


def share_keys_name(share: str) -> str:
    """Return the name of the digests of a share's keys below its attempt's prefix.

    Raises:
        InvalidNameError: The share's name is invalid.
    """
    return f"keys/{validated_share(share)}"


def progress_name(host: str) -> str:
    """Return the name of what a host says of its progress, below its attempt's prefix.

    Raises:
        InvalidNameError: The host's name is invalid.
    """
    return f"progress/{_validated_segment(host, 'host')}.json"


def data_file_prefix(batch_id: str, attempt: int) -> str:
    """Return the path below the model's Delta table of the data files of one attempt at a batch.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{BatchId(batch_id)}/{validated_attempt(attempt)}/"


def data_file_path(batch_id: str, attempt: int, share: str, number: int) -> str:
    """Return the path below the model's Delta table of one data file of a share, counting from 0.

    It has letters, digits, `-`, `_`, `.` and `/` only: Delta's log spells them as they are, and others not.

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
    """Return the prefix of the manifests of all batches minted on a UTC date, whatever their model.

    Raises:
        InvalidNameError: The text is no date of the form `2013-02-01`.
    """
    text = day if isinstance(day, str) else day.isoformat()[:10]
    unit = Partition(text).kind.unit
    if unit != "day":
        raise InvalidNameError(f"{text!r} is no date but a {unit}", remedy="Name a day, as 2013-02-01")
    return f"done/{text}/"


def parse_done_key(key: str) -> DoneKey:
    """Return date, model and batch id of a manifest's key.

    Raises:
        InvalidNameError: The key is not one that `done_key` makes.
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
    """Return the key of the document of a model's schema, named by its content.

    Args:
        model: The model's name.
        content: The document's canonical bytes.

    Raises:
        InvalidNameError: The model's name is invalid.
    """
    return f"models/{ModelName(model)}/schema-{hashlib.sha256(content).hexdigest()[:16]}.json"


def report_key(model: str, batch_id: str, attempt: int) -> str:
    """Return the key of the report that one attempt to load a batch leaves.

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
    """Return the key of what is left once DynamoDB has acknowledged all of one JSON part, counting from 0.

    Raises:
        InvalidNameError: An argument is invalid.
    """
    return f"{reports_prefix(model, batch_id)}acknowledged/part-{_part_number(number)}.json"


def acknowledgements_prefix(model: str, batch_id: str) -> str:
    """Return the prefix of what loads of a batch leave of each JSON part that DynamoDB has acknowledged.

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
    """Return the id of a run as it stands in a key.

    Raises:
        InvalidNameError: It is empty, too long, or holds what is not safe in a key.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidNameError(
            f"{run_id[:80]!r} cannot name a run in a key",
            remedy="Use at most 128 letters, digits, '-' and '_', beginning with a letter or digit",
        )
    return run_id


def validated_share(share: str) -> str:
    """Return the name of a share of a batch as it stands in keys.

    Raises:
        InvalidNameError: It is empty, too long, or holds what is not safe in the path of a data file.
    """
    return _validated_segment(share, "share")


def validated_bucket(name: str) -> str:
    """Return a bucket's name.

    Raises:
        InvalidNameError: S3 allows no bucket of this name.
    """
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"{name[:80]!r} is not the name of a bucket", remedy="Pass the bucket's name alone, without s3://"
        )
    return name


def validated_key(key: str) -> str:
    """Return a key, or a path below a table, made of plain segments only.

    Raises:
        InvalidNameError: It is empty or too long, begins with `/`, or has a segment that is empty, `.`, `..`
            or holds a character beside letters, digits and `_.=+:@,-`.
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
