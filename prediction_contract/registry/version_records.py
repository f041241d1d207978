"""The registry's records of a model's versions: versions, the champion pointer, and its history.

They are in the same table as the batches, under the same partition key. Only `version_rules` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prediction_contract.registry.records import RecordKey, request_key
from prediction_contract.registry.stored_record import StoredRecord

_DIGITS = 12


class VersionState(StrEnum):
    """The state of a model version."""

    REFUSED = "refused"
    CANDIDATE = "candidate"
    APPROVED = "approved"
    CHAMPION = "champion"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    RETIRED = "retired"


STATE_BY_APPROVAL = {
    "Rejected": VersionState.REFUSED,
    "PendingManualApproval": VersionState.CANDIDATE,
    "Approved": VersionState.APPROVED,
}
"""By SageMaker's approval status, the state of a version that has never been the champion."""


class VersionAction(StrEnum):
    """The change of a model's versions that a request asked for."""

    PROMOTE = "promote"
    DEMOTE = "demote"
    HOLD = "hold"
    RELEASE_HOLD = "release_hold"
    CHALLENGE = "challenge"


def version_key(model: str, version: int) -> RecordKey:
    """Return the key of a version's record; keys sort by version."""
    return RecordKey(model, f"version#{version:0{_DIGITS}d}")


def champion_key(model: str) -> RecordKey:
    """Return the key of a model's champion pointer."""
    return RecordKey(model, "champion")


def version_request_key(model: str, request_id: str) -> RecordKey:
    """Return the key of the record of a completed request about a model's versions.

    It differs from the key of a request about batches, so a demotion and a rollback may share a request id.

    Raises:
        InvalidNameError: As `request_key`.
    """
    return RecordKey(model, f"version_{request_key(model, request_id).record}")


def promotion_key(model: str, sequence: int) -> RecordKey:
    """Return the key of an entry of the champion's history; keys sort by sequence."""
    return RecordKey(model, f"promotion#{sequence:0{_DIGITS}d}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(StoredRecord):
    """One trained artifact with its evaluation. Times are UTC text (`utc_time`).

    Attributes:
        model: The model's name.
        version: The number of the SageMaker model package in the model's group, counting from 1.
        state: See `VersionState`.
        digest: The digest of the trained objects, which is the `model_version` of the batches it scores.
        artifact_key: The S3 key of the archive, or of the file of a model that was trained elsewhere.
        artifact_sha256: The SHA-256 of that file, which is checked before the file is parsed.
        artifact_bucket: The bucket of that file; None for the data bucket.
        codec: The format of a file that was trained elsewhere; None for the platform's own archive.
        package_arn: The ARN of the model package.
        approval: SageMaker's approval status as last read.
        approved_by: The rule or the person that approved it; None while it is not approved.
        created_at: When the package was created.
        trained_until: The last partition of the training data.
        judged_against: The version of the champion that it was compared with; 0 if there was none.
        verdict_key: The S3 key of the verdict; None if it was not judged.
        execution_arn: The ARN of the pipeline execution that made it.
        code_version: The version of the code that trained it.
        promoted_sequence: The last promotion that made it the champion.
        superseded_sequence: The promotion that replaced it; None while it is the champion.
        reason: Why it was refused or withdrawn.
    """

    model: str
    version: int
    state: str
    digest: str
    artifact_key: str
    artifact_sha256: str
    package_arn: str
    approval: str
    created_at: str
    artifact_bucket: str | None = None
    codec: str | None = None
    approved_by: str | None = None
    trained_until: str | None = None
    judged_against: int = 0
    verdict_key: str | None = None
    execution_arn: str | None = None
    code_version: str | None = None
    promoted_sequence: int | None = None
    superseded_sequence: int | None = None
    reason: str | None = None

    @property
    def key(self) -> RecordKey:
        """The record's primary key."""
        return version_key(self.model, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionPointer(StoredRecord):
    """The version that scores a model's new batches.

    Attributes:
        model: The model's name.
        version: The champion, or None if there is none.
        digest: The champion's digest.
        sequence: The newest entry of the history that the pointer reflects; 0 before the first.
        previous_version: The version that was the champion before.
        hold: Whether promotion by rule is stopped.
        withdrawn_before: The time of the latest demotion. Promotion by rule takes only later versions.
        promoted_at: When the version became the champion.
        made_at: When the champion's package was created.
        challenger: The version that scores beside the champion without being served.
    """

    model: str
    version: int | None = None
    digest: str | None = None
    sequence: int = 0
    previous_version: int | None = None
    hold: bool = False
    withdrawn_before: str | None = None
    promoted_at: str | None = None
    made_at: str | None = None
    challenger: int | None = None

    @property
    def key(self) -> RecordKey:
        """The record's primary key."""
        return champion_key(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEntry(StoredRecord):
    """One entry of the champion's history. It never changes.

    Attributes:
        model: The model's name.
        sequence: The entry's number, counting from 1.
        action: See `VersionAction`.
        version: The champion after this entry; None if there is none.
        previous_version: The champion before this entry.
        challenger: The challenger after this entry.
        request_id: The request that caused the entry.
        actor: Who asked for the change.
        reason: Why, in the actor's words or as a one-line verdict.
        changed_at: When the change was made.
    """

    model: str
    sequence: int
    action: str
    version: int | None = None
    previous_version: int | None = None
    challenger: int | None = None
    request_id: str = ""
    actor: str = ""
    reason: str = ""
    changed_at: str = ""
