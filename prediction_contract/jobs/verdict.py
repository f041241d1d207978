"""How a candidate was judged: one JSON document, which the pipeline's conditions and people read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from prediction_contract.errors import ContractError

# SageMaker's approval statuses of a model package.
APPROVED, PENDING, REJECTED = "Approved", "PendingManualApproval", "Rejected"


class InvalidVerdictError(ContractError):
    """The document of a verdict has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of candidate and champion on the same rows.

    Attributes:
        name: The metric's label: its name and the predicted column.
        better: `lower` or `higher`.
        rows: How many rows it was computed on.
        candidate: The candidate's value.
        champion: The champion's; None if there is none.
        gain: By how much the candidate is better, as a share of the champion's value; negative if worse.
        gain_low: The lower end of the gain's confidence interval, by a bootstrap over partitions; None if
            they are too few for one.
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
    """The first metric on the rows of one value of a column.

    Attributes:
        column: The column of the predictions.
        value: Its value, as text.
        rows: How many rows have it.
        candidate: The candidate's value of the metric; None if the rows are too few to tell.
        champion: The champion's, likewise.
        is_worse: Whether the candidate is worse there by more than the margin, beyond noise.
    """

    column: str
    value: str
    rows: int
    candidate: float | None
    champion: float | None
    is_worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one candidate. Flags are 0 or 1: a pipeline's conditions compare numbers.

    Attributes:
        model: The model's name.
        execution_id: The pipeline execution.
        candidate_digest: The candidate's digest.
        candidate_key: Its archive.
        candidate_sha256: Of the archive.
        champion_version: The number of the champion that it was judged against; 0 if there is none.
        champion_digest: The champion's digest; empty if there is none.
        trained_until: The last partition that the candidate learned from.
        first_held_out: The first partition that both were judged on; None for a model without metrics.
        last_held_out: The last one.
        is_new: Whether the candidate differs from the champion.
        better: Whether it is better than the champion by the margin, or without a champion better than the
            naive baselines. It is 1 for a candidate that nothing can be compared with: a person decides.
        worse_slices: In how many slices it is worse.
        needs_person: Whether a person must look: the pipeline's execution fails then.
        approval: The approval status that its package is born with.
        reason: Why, in one sentence.
        metrics: Each metric that the held-out rows tell something of, the deciding one first.
        slices: The slices of most rows.
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

    def to_document(self) -> dict[str, Any]:
        """Return the document as plain data; a package is registered with `judged_against`, which is text."""
        return {**asdict(self), "judged_against": str(self.champion_version)}

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(self.to_document(), sort_keys=True, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the verdict of a document.

        Raises:
            InvalidVerdictError: It has another form.
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
