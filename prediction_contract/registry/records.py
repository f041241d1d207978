"""The registry's records: batches, live pointers, publication entries, requests.

They are in one table with partition key `model` and sort key `record`. Only the rule modules write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prediction_contract.errors import InvalidNameError
from prediction_contract.registry.stored_record import StoredRecord, Value

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_SEQUENCE_DIGITS = 12
HIGHEST_SEQUENCE = 10**_SEQUENCE_DIGITS - 1
# Reasons are cut to this many characters, so that a record stays far below the item limit.
LONGEST_REASON = 2000
# The attributes of a claim. A load holds it, or the sweep that retires the batch.
CLAIM_ATTRIBUTES = ("claim_token", "claim_confirm_by", "claim_job_run_id")


class LoadState(StrEnum):
    """The state of a batch's load into the stores."""

    DONE = "done"
    LOADING = "loading"
    LOADED = "loaded"
    VERIFIED = "verified"
    REFUSED = "refused"
    RETIRED = "retired"


class ReleaseState(StrEnum):
    """The visibility of a batch to readers of the home region."""

    UNPUBLISHED = "unpublished"
    LIVE = "live"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class Action(StrEnum):
    """The change that a request asked for."""

    PUBLISH = "publish"
    ROLLBACK = "rollback"
    HOLD = "hold"
    RELEASE_HOLD = "release_hold"


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The primary key of one registry record."""

    model: str
    record: str

    def attributes(self) -> dict[str, Value]:
        """Return the key as registry attributes."""
        return {"model": self.model, "record": self.record}

    def item(self) -> dict[str, Any]:
        """Return the key in low-level DynamoDB form."""
        return {"model": {"S": self.model}, "record": {"S": self.record}}


def batch_key(model: str, batch_id: str) -> RecordKey:
    """Return the key of a batch's record."""
    return RecordKey(model, f"batch#{batch_id}")


def pointer_key(model: str, region: str) -> RecordKey:
    """Return the key of a region's live pointer."""
    return RecordKey(model, f"live#{region}")


def publication_key(model: str, sequence: int) -> RecordKey:
    """Return the key of a publication entry; keys sort by sequence."""
    return RecordKey(model, f"publication#{sequence:0{_SEQUENCE_DIGITS}d}")


def retention_key(model: str) -> RecordKey:
    """Return the key of a model's retention record."""
    return RecordKey(model, "retention")


def request_key(model: str, request_id: str) -> RecordKey:
    """Return the key of the record of a completed request.

    Raises:
        InvalidNameError: The request id is empty, too long, or has characters other than `A-Za-z0-9_.:-`.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidNameError(
            "A request id is 1 to 128 letters, digits or '_.:-', and begins with a letter or digit",
            remedy="Pass a run id or a UUID",
            model=model,
        )
    return RecordKey(model, f"request#{request_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord(StoredRecord):
    """Everything that the registry knows about one batch. Times are UTC text (`utc_time`).

    Attributes:
        model: The model's name.
        batch_id: The batch.
        partition: The hour, day, week or month that the batch scores.
        load_state: See `LoadState`.
        release_state: See `ReleaseState`.
        manifest_key: The S3 key of the done file.
        manifest_digest: The SHA-256 of the done file, in hex.
        row_count: The number of rows that the manifest declares.
        accepted_rows: The number of its rows that both stores hold; None until a load is verified.
        checksum: The manifest's batch checksum, as decimal text.
        version_number: The number of the model version that scored it; None if the manifest has none.
        load_attempts: The number of loads claimed so far.
        claim_token: The token of the current claim; None while nothing is claimed.
        claim_confirm_by: When the claim expires if no job run has confirmed it.
        claim_job_run_id: The job run that confirmed the claim.
        writing_begun_at: When rows were first written. The manifest is fixed from then on.
        cleaning: The cleaning rules of the first load, as JSON text; every re-load uses them.
        unverified_attempt: The last complete load attempt, while it waits for verification.
        unverified_expire_at: When the items of this attempt expire.
        verified_attempt: The load attempt that was verified last.
        items_expire_at: When the verified items expire.
        verified_regions: The regions whose replica holds the whole batch.
        retain_until: The batch is not retired before this time.
        cleared_at: When the deletion of a retired batch was complete.
        published_sequence: The last publication that made the batch live.
        superseded_sequence: The publication that replaced it; None while it is live.
        refusal_reason: Why the batch was refused.
        checked_attempt: The load attempt to which the model's quality and drift rules were last applied.
        check_faults: The faults that prevent automatic publication; None if there are none.
    """

    model: str
    batch_id: str
    partition: str = ""
    load_state: str = LoadState.DONE
    release_state: str = ReleaseState.UNPUBLISHED
    manifest_key: str = ""
    manifest_digest: str = ""
    row_count: int = 0
    accepted_rows: int | None = None
    checksum: str = ""
    version_number: int | None = None
    load_attempts: int = 0
    claim_token: str | None = None
    claim_confirm_by: str | None = None
    claim_job_run_id: str | None = None
    writing_begun_at: str | None = None
    cleaning: str | None = None
    unverified_attempt: int | None = None
    unverified_expire_at: str | None = None
    verified_attempt: int | None = None
    items_expire_at: str | None = None
    verified_regions: frozenset[str] = frozenset()
    retain_until: str | None = None
    cleared_at: str | None = None
    published_sequence: int | None = None
    superseded_sequence: int | None = None
    refusal_reason: str | None = None
    checked_attempt: int | None = None
    check_faults: str | None = None

    @property
    def key(self) -> RecordKey:
        """The record's primary key."""
        return batch_key(self.model, self.batch_id)

    @property
    def is_rollback_target(self) -> bool:
        """Whether a rollback may make it live: it was live before, is not withdrawn, and is still loaded."""
        return self.release_state == ReleaseState.SUPERSEDED and self.load_state == LoadState.VERIFIED

    @property
    def quarantined_rows(self) -> int | None:
        """The number of rows in quarantine; None until a load is verified."""
        return None if self.accepted_rows is None else self.row_count - self.accepted_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePointer(StoredRecord):
    """The batch that a region serves. The home region's pointer decides; the other regions follow it.

    Attributes:
        model: The model's name.
        batch_id: The live batch, or None before the first publication.
        partition: Its partition.
        sequence: The newest publication entry that the pointer reflects; 0 before the first.
        previous_batch_id: The batch that was live before.
        hold: Whether automatic publication is stopped (home only).
        withdrawn_before: The time of the latest rollback. Automatic publication takes only batches minted
            after it (home only).
        published_at: When the live batch became live.
    """

    model: str
    batch_id: str | None = None
    partition: str | None = None
    sequence: int = 0
    previous_batch_id: str | None = None
    hold: bool = False
    withdrawn_before: str | None = None
    published_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePointers:
    """The live pointers of a model in all regions, as read before a change.

    Attributes:
        home_region: The region that writes.
        home: Its live pointer, or None before the first publication.
        regions: The live pointer of each other serving region, or None if it has none yet.
        highest_projected: The highest sequence in Snowflake's projection. After a restore of the registry,
            numbering continues above it.
    """

    home_region: str
    home: LivePointer | None
    regions: Mapping[str, LivePointer | None] = field(default_factory=dict)
    highest_projected: int = 0

    @property
    def next_sequence(self) -> int:
        """The number of the next publication entry."""
        return max(self.home.sequence if self.home else 0, self.highest_projected) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationEntry(StoredRecord):
    """One entry of a model's release history. It never changes.

    Attributes:
        model: The model's name.
        sequence: The entry's number, counting from 1.
        action: See `Action`.
        batch_id: The batch that is live after this entry; None if there is none.
        partition: Its partition.
        previous_batch_id: The batch that was live before this entry.
        request_id: The request that caused the entry.
        actor: Who asked for the change.
        reason: Why, in the actor's words.
        published_at: When the change was made.
        serving: The data that the API needs to serve the batch, as JSON text.
    """

    model: str
    sequence: int
    action: str
    batch_id: str | None = None
    partition: str | None = None
    previous_batch_id: str | None = None
    request_id: str = ""
    actor: str = ""
    reason: str = ""
    published_at: str = ""
    serving: str | None = None

    @property
    def makes_live(self) -> bool:
        """Whether this entry made the batch live. A hold and its release only name the live batch."""
        return self.action in {Action.PUBLISH, Action.ROLLBACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRecord(StoredRecord):
    """The result of a model's last sweep.

    Attributes:
        model: The model's name.
        sweep_from: The oldest batch that the next sweep must examine; empty before the first sweep.
        retained_from: The oldest batch that is not retired; empty before the first sweep.
        swept_at: When the sweep ended.
        not_vacuumed: Why files removed from the Delta table are still on S3; None if there are none.
    """

    model: str
    sweep_from: str = ""
    retained_from: str = ""
    swept_at: str | None = None
    not_vacuumed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """A request to change the live batch or the champion.

    Attributes:
        request_id: The same id for every retry. A request with a known id changes nothing.
        actor: A person or a Dagster run.
        reason: Free text for the history.
        automatic: Whether the request comes from a rule and not from a person. The stricter rules then apply.
    """

    request_id: str
    actor: str
    reason: str = ""
    automatic: bool = False
