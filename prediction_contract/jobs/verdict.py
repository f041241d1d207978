"""The verdict on a candidate, a JSON document for the pipeline's conditions and for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from prediction_contract.errors import ContractError

# SageMaker's approval statuses of a model package.
APPROVED, PENDING, REJECTED = "Approved", "PendingManualApproval", "Rejected"


class InvalidVerdictError(ContractError):
    """The document of a verdict is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of candidate and champion on the same rows.

    Attributes:
        name: The metric's label: its name and the predicted column.
        better: Which values are better, `lower` or `higher`.
        rows: The number of rows.
        candidate: The candidate's value.
        champion: The champion's value; None if there is none.
        gain: How much better the candidate is, as a share of the champion's value; negative if it is worse.
        gain_low: The lower end of the gain's confidence interval, by a bootstrap over partitions; None if
            there are too few partitions.
        baselines: The values of the naive baselines, by name.
        beats_baselines: Whether the candidate is better than all of them.
    """

    name: str
    better: str
    rows: int
    candidate: float
    champion: float | None
    gain: float | None
    gain_low: float | None
    baselines: dict[str, float]
    beats_baselines: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceComparison:
    """The first metric on the rows with one value of a column.

    Attributes:
        column: The column of the predictions.
        value: The column's value, as text.
        rows: The number of rows with this value.
        candidate: The candidate's value of the metric; None if there are too few rows.
        champion: The champion's value of the metric; None if there are too few rows.
        is_worse: Whether the candidate is worse by more than the margin, beyond noise.
    """

    column: str
    value: str
    rows: int
    candidate: float | None
    champion: float | None
    is_worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one candidate. Flags are 0 or 1, because a pipeline's conditions compare numbers.

    Attributes:
        model: The model's name.
        execution_id: The pipeline execution.
        candidate_digest: The candidate's digest.
        candidate_key: The S3 key of the candidate's archive.
        candidate_sha256: The SHA-256 of the archive.
        champion_version: The version of the champion with which it was compared; 0 if there is none.
        champion_digest: The champion's digest; empty if there is none.
        trained_until: The last partition of the candidate's training data.
        first_held_out: The first partition to judge on; None for a model without metrics.
        last_held_out: The last partition to judge on; None for a model without metrics.
        is_new: Whether the candidate differs from the champion.
        better: Whether it is better than the champion by the margin or, without a champion, better than the
            naive baselines. It is 1 if there is nothing to compare; a person then decides.
        worse_slices: The number of slices in which it is worse.
        needs_person: Whether a person must look at it. The pipeline execution then fails.
        approval: The initial approval status of its package.
        reason: The reason in one sentence.
        metrics: The metrics that the held-out rows can determine, the deciding one first.
        slices: The slices with the most rows.
        trained_rows: The number of rows that the candidate learned from; None if its archive does not say.
        libraries: The versions of the candidate's libraries, by name.
    """

    model: str
    execution_id: str
    candidate_digest: str
    candidate_key: str
    candidate_sha256: str
    champion_version: int
    champion_digest: str
    trained_until: str
    first_held_out: str | None
    last_held_out: str | None
    is_new: int
    better: int
    worse_slices: int
    needs_person: int
    approval: str
    reason: str
    metrics: tuple[MetricComparison, ...] = ()
    slices: tuple[SliceComparison, ...] = ()
    trained_rows: int | None = None
    libraries: dict[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return the document as plain data. It adds `judged_against` as text, for the package's metadata."""
        return {**asdict(self), "judged_against": str(self.champion_version)}

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(self.to_document(), sort_keys=True, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the verdict in a document.

        Raises:
            InvalidVerdictError: The document is invalid.
        """
        try:
            document = json.loads(content)
            del document["judged_against"]
            return cls(
                **{
                    **document,
                    "metrics": tuple(MetricComparison(**each) for each in document["metrics"]),
                    "slices": tuple(SliceComparison(**each) for each in document["slices"]),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidVerdictError(
                f"The verdict cannot be read: {error}", remedy="Run the retraining again"
            ) from error
