"""What the registry stores: batch records, live pointers, publication entries, requests.

One table: partition key `model`, sort key `record`. Only the rule modules write these records.
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
# Why a batch was refused or published is cut here, so that a record stays far below the largest item.
LONGEST_REASON = 2000
# What says who works on a batch: a load, or the sweep that retires it.
CLAIM_ATTRIBUTES = ("claim_token", "claim_confirm_by", "claim_job_run_id")


class LoadState(StrEnum):
    """How far a batch has come into the stores."""

    DONE = "done"
    LOADING = "loading"
    LOADED = "loaded"
    VERIFIED = "verified"
    REFUSED = "refused"
    RETIRED = "retired"


class ReleaseState(StrEnum):
    """What readers of the home region have seen of a batch."""

    UNPUBLISHED = "unpublished"
    LIVE = "live"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class Action(StrEnum):
    """What a request asked of the registry."""

    PUBLISH = "publish"
    ROLLBACK = "rollback"
    HOLD = "hold"
    RELEASE_HOLD = "release_hold"
    WITHDRAW = "withdraw"


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
    """Return the key of the record of a model's retention."""
    return RecordKey(model, "retention")


def request_key(model: str, request_id: str) -> RecordKey:
    """Return the key of the record that remembers a request.

    Raises:
        InvalidNameError: The request id is empty, too long, or has other characters than `A-Za-z0-9_.:-`.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidNameError(
            "A request id is 1 to 128 letters, digits, '_', '.', ':' or '-', a letter or digit first",
            remedy="Pass a run id or a UUID",
            model=model,
        )
    return RecordKey(model, f"request#{request_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord(StoredRecord):
    """Everything the registry knows of one batch. Moments are UTC text (`utc_time`).

    Attributes:
        model: The model's name.
        batch_id: The batch.
        partition: The hour, day, week or month that the batch scores.
        load_state: See `LoadState`.
        release_state: See `ReleaseState`.
        manifest_key: S3 key of the done file.
        manifest_digest: SHA-256 of the done file, in hex.
        row_count: Rows that the manifest promises.
        accepted_rows: Those of them that both stores were found to hold; None until a load is verified.
        checksum: The manifest's batch checksum, as decimal text.
        version_number: Of the model version that scored it; None if the manifest names none.
        load_attempts: How many loads were claimed so far.
        claim_token: Who may load; present while a load is claimed.
        claim_confirm_by: Until when the claimed job run must have confirmed.
        claim_job_run_id: The job run that confirmed the claim.
        writing_begun_at: When rows were first written; from then on the manifest is fixed.
        cleaning: The cleaning rules of the first load, as JSON text; every re-load uses them.
        unverified_attempt: The attempt that was loaded last and waits for its verification.
        unverified_expire_at: When the items that this attempt wrote will expire.
        verified_attempt: The attempt whose rows were verified last.
        items_expire_at: When the verified items expire.
        verified_regions: Regions whose replica was found to hold the whole batch.
        retain_until: Before this moment the batch is not retired.
        cleared_at: When the last of a retired batch had left; absent while it is being deleted.
        published_sequence: The last publication that made the batch live.
        superseded_sequence: The publication that replaced it, unless it is live.
        refusal_reason: Why the batch was refused.
        checked_attempt: The load attempt whose rows the model's quality and drift rules were last applied to.
        check_faults: Which of them the batch broke so that nothing automatic may publish it; absent if none.
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
        """Whether a rollback may go to it: it was live before, was not withdrawn, and is still whole."""
        return self.release_state == ReleaseState.SUPERSEDED and self.load_state == LoadState.VERIFIED

    @property
    def quarantined_rows(self) -> int | None:
        """Rows of the manifest that no store holds; None until a load is verified."""
        return None if self.accepted_rows is None else self.row_count - self.accepted_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePointer(StoredRecord):
    """Which batch a region serves. The home region's pointer is the authority.

    Attributes:
        model: The model's name.
        batch_id: The live batch, or None before the first publication.
        partition: Its partition.
        sequence: The newest publication entry the pointer reflects; 0 before the first.
        previous_batch_id: The batch that was live before.
        hold: Whether automatic publication is stopped (home only).
        withdrawn_before: The latest moment of a rollback: automatic publication takes only batches minted
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
        regions: The live pointers of the other serving regions (None where there is none yet), by region.
        highest_projected: The highest sequence that Snowflake's projection holds; after a restore of the
            registry the numbering goes on above it.
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
    """One numbered, never changed line of a model's release history.

    Attributes:
        model: The model's name.
        sequence: 1, 2, 3 ...
        action: See `Action`.
        batch_id: The batch that is live from here on; None if none is.
        partition: Its partition.
        previous_batch_id: The batch that was live until here.
        request_id: The request that asked for it.
        actor: Who asked.
        reason: Why, in the actor's words.
        published_at: When.
        serving: What the API needs to serve the batch, as JSON text.
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
        """Whether the batch became live by it: a hold and its release only name the one that was."""
        return self.action in {Action.PUBLISH, Action.ROLLBACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRecord(StoredRecord):
    """What the last sweep of a model left to be known.

    Attributes:
        model: The model's name.
        sweep_from: The oldest batch that the next sweep has to look at; empty before the first one.
        retained_from: The oldest batch that is not retired, likewise.
        swept_at: When the sweep ended.
        not_vacuumed: Why files that left the Delta table long ago stay on S3; None if none stays.
    """

    model: str
    sweep_from: str = ""
    retained_from: str = ""
    swept_at: str | None = None
    not_vacuumed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """Who wants a change of what is live, and why.

    Attributes:
        request_id: The same for every retry of the same wish: a known id does nothing again.
        actor: A person, or the Dagster run.
        reason: Free text for the history.
        automatic: Whether no person decided it; such a publication obeys hold, order and withdrawal.
    """

    request_id: str
    actor: str
    reason: str = ""
    automatic: bool = False
