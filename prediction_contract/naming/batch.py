"""The names of models, partitions, batches and the jobs that work on them."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Self

from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_JOB_NAME_CHARACTERS
from prediction_contract.naming.partition_kind import HOURLY, WEEKLY, PartitionKind, kind_of_text

MODEL_PATTERN = "[a-z][a-z0-9_]{0,40}"
PARTITION_PATTERN = "[0-9]{4}-([0-9]{2}(-[0-9]{2}(T[0-9]{2})?)?|W[0-9]{2})"
BATCH_ID_PATTERN = "[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
# It is limited because every answer of the API contains it.
LONGEST_MODEL_VERSION = 256

_MODEL = re.compile(MODEL_PATTERN)
_PARTITION = re.compile(PARTITION_PATTERN)
_DAGSTER_HOUR = re.compile("([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{2}):00")
_DAGSTER_WEEK = re.compile("([0-9]{4}-W[0-9]{2})-1")
_BATCH_ID = re.compile(BATCH_ID_PATTERN)
_STEP = re.compile("[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_MODEL_PART = 20


class ModelName(str):
    """A model's name: `[a-z][a-z0-9_]{0,40}`; safe in keys, file names and SQL identifiers.

    Raises:
        InvalidNameError: The text has another form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Return the validated name."""
        if not _MODEL.fullmatch(text):
            raise InvalidNameError(
                f"{_shown(text)} is not a model name",
                remedy="Use a lower-case letter, then at most 40 lower-case letters, digits or underscores",
            )
        return super().__new__(cls, text)


class Partition(str):
    """The period in UTC that a batch scores: `2013-02-01T05`, `2013-02-01`, `2013-W06` or `2013-02`.

    It is an hour, a day, an ISO week (which begins on a Monday) or a month. Partitions of one kind sort by
    time as text.

    Raises:
        InvalidNameError: The text has another form, or names a period that does not exist.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Return the validated partition."""
        partition = super().__new__(cls, text)
        try:
            exists = bool(_PARTITION.fullmatch(text)) and bool(partition.start)
        except ValueError:
            exists = False
        if not exists:
            raise InvalidNameError(
                f"{_shown(text)} is not a partition",
                remedy="Name an hour in UTC as 2013-02-01T05, a day as 2013-02-01, an ISO week as 2013-W06, "
                "or a month as 2013-02",
            )
        return partition

    @classmethod
    def from_dagster_key(cls, key: str) -> Self:
        """Parse a partition from a Dagster key, the inverse of `dagster_key`.

        Raises:
            InvalidNameError: The key has another form.
        """
        if hour := _DAGSTER_HOUR.fullmatch(key):
            return cls(f"{hour[1]}T{hour[2]}")
        week = _DAGSTER_WEEK.fullmatch(key)
        return cls(week[1] if week else key)

    @classmethod
    def from_path(cls, path: str) -> Self:
        """Parse a partition from part of an S3 key, the inverse of `path`.

        Raises:
            InvalidNameError: The part has another form.
        """
        partition = cls(path.partition("=")[2].replace("/hour=", "T"))
        if partition.path != path:
            raise InvalidNameError(
                f"{_shown(path)} is not the part of a key that names a partition",
                remedy=f"Write it as {partition.path}",
            )
        return partition

    @classmethod
    def at(cls, moment: datetime, kind: PartitionKind) -> Self:
        """Return the partition of a kind that contains a time.

        Raises:
            InvalidNameError: The time has no time zone, or its year has no such partition.
        """
        if moment.tzinfo is None:
            raise InvalidNameError(
                "A time without a time zone belongs to no partition", remedy="Pass an aware datetime"
            )
        return cls(kind.text_at(moment.astimezone(UTC)))

    @property
    def kind(self) -> PartitionKind:
        """The kind of partition: an hour, a day, a week or a month."""
        return kind_of_text(self)

    @property
    def start(self) -> datetime:
        """The start, in UTC, inclusive."""
        return self.kind.start_of(self)

    @property
    def end(self) -> datetime:
        """The end, in UTC, exclusive.

        Raises:
            InvalidNameError: The end is beyond the calendar.
        """
        return self._shifted_start(1)

    @property
    def dagster_key(self) -> str:
        """The partition's key in Dagster: `2013-02-01-05:00`, `2013-02-01`, `2013-W06-1` or `2013-02`."""
        if self.kind is HOURLY:
            return f"{self[:10]}-{self[11:]}:00"
        return f"{self}-1" if self.kind is WEEKLY else str(self)

    @property
    def path(self) -> str:
        """The partition as part of an S3 key.

        `dt=2013-02-01/hour=05`, `dt=2013-02-01`, `week=2013-W06` or `month=2013-02`.
        """
        return self.kind.path_of(self)

    def earlier(self, steps: int) -> Partition:
        """Return the partition of the same kind that lies `steps` partitions before this one.

        Raises:
            InvalidNameError: There is no such partition.
        """
        return Partition(self.kind.text_at(self._shifted_start(-steps)))

    def later(self, steps: int) -> Partition:
        """Return the partition of the same kind that lies `steps` partitions after this one.

        Raises:
            InvalidNameError: There is no such partition.
        """
        return self.earlier(-steps)

    def _shifted_start(self, steps: int) -> datetime:
        try:
            return self.kind.shifted(self.start, steps)
        except OverflowError as error:
            where = f"{steps} after" if steps > 0 else f"{-steps} before"
            raise InvalidNameError(
                f"There is no partition {where} {self}", remedy="Name a time within the calendar"
            ) from error


class BatchId(str):
    """One batch: `YYYYMMDDTHHMMSSZ-hhhhhhhh`, the UTC second of minting and a hash; sorts by creation.

    Raises:
        InvalidNameError: The text has another form, or names a second that does not exist.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Return the validated batch id."""
        batch_id = super().__new__(cls, text)
        try:
            exists = bool(_BATCH_ID.fullmatch(text)) and bool(batch_id.minted_at)
        except ValueError:
            exists = False
        if not exists:
            raise InvalidNameError(
                f"{_shown(text)} is not a batch id",
                remedy="Pass one as minted, in the form 20130201T060000Z-0123abcd",
            )
        return batch_id

    @property
    def minted_at(self) -> datetime:
        """The UTC second in which the batch id was minted."""
        return datetime.strptime(self[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    @property
    def date(self) -> str:
        """The UTC date of minting, as `2013-02-01`."""
        return f"{self[:4]}-{self[4:6]}-{self[6:8]}"


def mint_batch_id(model: str, partition: str, intent: str, now: datetime) -> BatchId:
    """Return the batch id of an intent: the same four arguments always give the same id.

    Args:
        model: The model's name.
        partition: The partition that the batch scores, in the contract's text form.
        intent: An id of the request for the batch: the first run of a chain of retries, or a job's ARN.
        now: The time of the request, with a time zone; its fraction of a second is dropped.

    Raises:
        InvalidNameError: Model or partition has another form, the intent is empty, or `now` is naive.
    """
    if not intent:
        raise InvalidNameError(
            "A batch needs an intent", remedy="Pass the id of the first run or the job's ARN", model=model
        )
    if now.tzinfo is None:
        raise InvalidNameError(
            "The time of minting has no time zone", remedy="Pass an aware datetime", model=model
        )
    # A JSON array separates the three unambiguously, whatever characters the intent contains.
    meaning = json.dumps([ModelName(model), Partition(partition), intent])
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:8]
    second = now.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()
    return BatchId(f"{second.replace('-', '').replace(':', '')}Z-{digest}")


def job_name(step: str, model: str, batch_id: str, attempt: int) -> str:
    """Return a job's name, `<step>-<model>-<batch_id>-<attempt>`, within SageMaker's 63 characters.

    The model's name is cut to 20 characters; the hash in the batch id distinguishes models with the same
    beginning.

    Raises:
        InvalidNameError: A part has another form, or the name would be too long.
    """
    if not _STEP.fullmatch(step):
        raise InvalidNameError(
            f"{_shown(step)} is not a step",
            remedy="Use lower-case letters, digits and single '-'",
            model=model,
        )
    short = ModelName(model).replace("_", "-")[:_MODEL_PART]
    name = f"{step}-{short}-{BatchId(batch_id)}-{validated_attempt(attempt)}"
    if len(name) > MAX_JOB_NAME_CHARACTERS:
        raise InvalidNameError(
            f"The job name {name} has {len(name)} characters, and {MAX_JOB_NAME_CHARACTERS} are allowed",
            remedy="Shorten the step's name",
            model=model,
            batch_id=batch_id,
        )
    return name


def validated_attempt(attempt: int) -> int:
    """Return the number of an attempt, counting from 1.

    Raises:
        InvalidNameError: It is below 1, or not an integer.
    """
    if type(attempt) is not int or attempt < 1:
        raise InvalidNameError(f"{attempt!r} is not the number of an attempt", remedy="Count attempts from 1")
    return attempt


def _shown(text: str) -> str:
    """Return a name for an error message, cut so that a hostile one cannot flood a log."""
    longest = 80
    return repr(text if len(text) <= longest else f"{text[:longest]}...")
