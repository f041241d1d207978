"""The measured accuracy of a published batch, as written by the job that measures it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError


class InvalidAccuracyError(ContractError):
    """The document of a batch's accuracy is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMetric:
    """One metric of a batch.

    Attributes:
        name: The metric's label, as in verdicts.
        better: Which values are better, `lower` or `higher`.
        rows: The number of rows whose prediction and outcome are both known.
        value: The metric's value; None if these rows cannot determine it.
    """

    name: str
    better: str
    rows: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSlice:
    """The first metric on the rows with one value of a column.

    Attributes:
        column: The column of the predictions.
        value: The column's value, as text.
        rows: The number of measured rows.
        metric: The metric's value; None if these rows cannot determine it.
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
        partition: The batch's partition.
        batch_id: The batch.
        model_version: The digest of the model version that scored it.
        version_number: The number of that version; None for a model that is not registered.
        known_at: The last partition whose features contributed outcomes.
        rows: The number of the batch's accepted rows.
        known_rows: The number of accepted rows whose outcome is known.
        metrics: The metrics in their declared order.
        slices: The slices with enough rows, largest first.
        slices_left_out: The columns that have too many values for slices.
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
        """Return the accuracy in a document.

        Raises:
            InvalidAccuracyError: The document is invalid.
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
                f"The accuracy document of a batch cannot be read: {error}",
                remedy="Materialize the accuracy of its partition again",
            ) from error
