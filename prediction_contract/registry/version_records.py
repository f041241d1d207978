"""What the registry stores of a model's versions: their records, the champion pointer, its history.

They lie in the table of the batches, under the same partition key. Only `version_rules` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prediction_contract.registry.records import RecordKey, request_key
from prediction_contract.registry.stored_record import StoredRecord

_DIGITS = 12


class VersionState(StrEnum):
    """What became of a model version."""

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
"""The state of a version that was never the champion, by SageMaker's approval status of its package."""


class VersionAction(StrEnum):
    """What a request asked of a model's versions."""

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
    """Return the key of the record that remembers a request about a model's versions.

    It is not the key of a request about batches: one request id serves a demotion and a rollback.

    Raises:
        InvalidNameError: As `request_key`.
    """
    return RecordKey(model, f"version_{request_key(model, request_id).record}")


def promotion_key(model: str, sequence: int) -> RecordKey:
    """Return the key of an entry of the champion's history; keys sort by sequence."""
    return RecordKey(model, f"promotion#{sequence:0{_DIGITS}d}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(StoredRecord):
    """One trained artifact with its evaluation. Moments are UTC text (`utc_time`).

    Attributes:
        model: The model's name.
        version: SageMaker's number of the model package in the model's group, counting from 1.
        state: See `VersionState`.
        digest: Of the trained objects: the `model_version` of the batches that it scores.
        artifact_key: The archive, or the file of a model that was trained elsewhere.
        artifact_sha256: Of that file, checked before it is parsed.
        artifact_bucket: Its bucket; None for the data bucket.
        codec: The format of a file that was trained elsewhere; None for the platform's own archive.
        package_arn: The model package.
        approval: SageMaker's approval status as it was last read.
        approved_by: The rule, or the person; None while nobody approved it.
        created_at: When the package was made.
        trained_until: The last partition that it learned from.
        judged_against: The champion's version that it was compared with; 0 if there was none.
        verdict_key: The S3 key of the verdict; None for a version that nobody judged.
        execution_arn: The pipeline execution that made it.
        code_version: The version of the code that trained it.
        promoted_sequence: The last promotion that made it the champion.
        superseded_sequence: The promotion that replaced it, unless it is the champion.
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
    """Which version scores a model's new batches.

    Attributes:
        model: The model's name.
        version: The champion, or None before the first promotion.
        digest: Its digest.
        sequence: The newest entry of the history that the pointer reflects; 0 before the first.
        previous_version: The version that was the champion before.
        hold: Whether promotion by rule is stopped.
        withdrawn_before: The latest moment of a demotion; promotion by rule takes only later versions.
        promoted_at: When the champion became it.
        made_at: When the champion's package was made.
        challenger: The version that is scored beside it without being served.
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
    """One numbered, never changed line of the champion's history.

    Attributes:
        model: The model's name.
        sequence: 1, 2, 3 ...
        action: See `VersionAction`.
        version: The champion from here on; None if there is none.
        previous_version: The champion until here.
        challenger: The challenger from here on.
        request_id: The request that asked for it.
        actor: Who asked.
        reason: Why, in the actor's words, or the verdict in one line.
        changed_at: When.
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
