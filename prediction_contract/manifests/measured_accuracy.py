"""How well a published batch foretold what became of it, as the job that measures it writes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError


class InvalidAccuracyError(ContractError):
    """The document of a batch's accuracy has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMetric:
    """One metric of a batch.

    Attributes:
        name: The metric's label, as verdicts have it.
        better: `lower` or `higher`.
        rows: The rows that were measured: prediction and outcome are known.
        value: None if the rows say nothing of the metric.
    """

    name: str
    better: str
    rows: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSlice:
    """The first metric on the rows of one value of a column.

    Attributes:
        column: The column of the predictions.
        value: Its value, as text.
        rows: The rows that were measured.
        metric: The metric's value; None if the rows say nothing of it.
    """

    column: str
    value: str
    rows: int
    metric: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAccuracy:
    """The accuracy of one batch.

    Attributes:
        model: The model's name.
        partition: The batch's.
        batch_id: The batch.
        model_version: The digest of the model that scored it.
        version_number: Its number; None for a model that is not registered.
        known_at: The last partition whose features told outcomes of the batch's partition.
        rows: The batch's rows that a load accepts.
        known_rows: Those of them whose outcome is known.
        metrics: Each metric, the first one first.
        slices: Each slice of enough rows, those of most rows first.
        slices_left_out: Columns that have too many values to be told.
        code_version: The version of the code that measured.
    """

    model: str
    partition: str
    batch_id: str
    model_version: str
    version_number: int | None
    known_at: str
    rows: int
    known_rows: int
    metrics: tuple[MeasuredMetric, ...]
    slices: tuple[MeasuredSlice, ...] = ()
    slices_left_out: tuple[str, ...] = ()
    code_version: str = ""

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the accuracy of a document.

        Raises:
            InvalidAccuracyError: It has another form.
        """
        try:
            document = json.loads(content)
            return cls(
                **{
                    **document,
                    "metrics": tuple(MeasuredMetric(**each) for each in document["metrics"]),
                    "slices": tuple(MeasuredSlice(**each) for each in document["slices"]),
                    "slices_left_out": tuple(map(str, document["slices_left_out"])),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidAccuracyError(
                f"The accuracy of a batch cannot be read: {error}",
                remedy="Materialize the accuracy of its partition again",
            ) from error
