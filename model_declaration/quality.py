"""What a batch must be like to be loaded and published."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from model_declaration.inputs.declared_metrics import DeclaredMetric, require_different
from model_declaration.validation import DeclarationPart, NumberText, Share
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

# Reading a row back costs a fifth of writing it, and as much time.
_ALL_READ_BACK = 50_000


class ColumnRule(DeclarationPart):
    """What the values of one column must be like; a batch that breaks it is not published automatically.

    Attributes:
        column: One of the model's columns.
        null_rate: The highest share of rows without a value.
        minimum: The least value of a numeric column.
        maximum: The greatest value of a numeric column.
        unique: Whether no value may occur twice.
    """

    column: str
    null_rate: Share | None = None
    minimum: NumberText | None = None
    maximum: NumberText | None = None
    unique: bool = False

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        """Refuse a rule that no batch could break, and one that every batch breaks."""
        if not self.unique and all(each is None for each in (self.null_rate, self.minimum, self.maximum)):
            raise ValueError("the rule states none of null_rate, minimum, maximum and unique")
        bounds = (self.minimum, self.maximum)
        if None not in bounds and Decimal(str(self.minimum)) > Decimal(str(self.maximum)):
            raise ValueError(f"minimum {self.minimum} is greater than maximum {self.maximum}")
        return self


class RowsAgainstLive(DeclarationPart):
    """How many accepted rows a batch must have, as a multiple of those of the live one."""

    at_least: float = Field(default=0.5, ge=0, le=1)
    at_most: float = Field(default=2.0, ge=1)


class CoverageOfLive(DeclarationPart):
    """Which share of the live batch's entities a batch must have.

    Attributes:
        warn: Below it the check warns.
        block: Below it the batch is not published automatically.
    """

    warn: float = Field(default=0.9, ge=0, le=1)
    block: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse a block that comes before its warning."""
        if self.block > self.warn:
            raise ValueError(f"block {self.block} is greater than warn {self.warn}")
        return self


class DriftThresholds(DeclarationPart):
    """How far a column's values may have moved, as a population stability index; None for however far.

    Attributes:
        warn: From it on the check warns.
        block: From it on the batch is not published automatically.
    """

    warn: float | None = Field(default=0.25, gt=0)
    block: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse a block that comes before its warning."""
        if self.warn is not None and self.block is not None and self.block < self.warn:
            raise ValueError(f"block {self.block} is less than warn {self.warn}")
        return self


class ColumnDrift(DriftThresholds):
    """The thresholds of one column."""

    column: str


class Drift(DriftThresholds):
    """The thresholds of all numeric and boolean columns, and those of single ones in their place."""

    columns: list[ColumnDrift] = Field(default_factory=list)

    def of(self, column: str) -> DriftThresholds:
        """Return the thresholds of a column."""
        return next((each for each in self.columns if each.column == column), self)


class Accuracy(DriftThresholds):
    """By how much published predictions may be worse than what their model was promoted with.

    A threshold is a share of the first metric's value at the promotion.

    Attributes:
        warn: From it on the check warns; None for never.
        block: From it on the check fails, and after two such batches of a version no further batch of it is
            published automatically; None for never.
        metrics: Of a model that is not trained here; one that is has those of `training`.
    """

    warn: float | None = Field(default=0.1, gt=0)
    metrics: list[DeclaredMetric] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_different_metrics(self) -> Self:
        """Refuse two metrics of one name and column."""
        require_different(self.metrics)
        return self


class Quality(DeclarationPart):
    """What a batch may lack to be loaded, and must be like to be published automatically.

    Attributes:
        quarantine_rows: This many refused rows do not refuse the batch.
        quarantine_rate: This share of refused rows does not refuse it either; the larger of both counts. If
            neither is declared, `QuarantineTolerance` has the default.
        verify: Whether a load reads back every row (`full`), one in a hundred (`sample`), or every row and
            then looks through the whole online table for others (`scan`); if left out, `full` up to 50,000
            rows, else `sample`.
        columns: Rules of single columns.
        rows: Accepted rows against the live batch's; nothing is asked if left out.
        coverage: Entities against the live batch; nothing is asked if left out.
        drift: Values against the live batch.
        accuracy: What became of published predictions, against what their model was promoted with.
    """

    quarantine_rows: int | None = Field(default=None, ge=0)
    quarantine_rate: Share | None = None
    verify: Literal["full", "sample", "scan"] | None = None
    columns: list[ColumnRule] = Field(default_factory=list)
    rows: RowsAgainstLive | None = None
    coverage: CoverageOfLive | None = None
    drift: Drift = Field(default_factory=Drift)
    accuracy: Accuracy = Field(default_factory=Accuracy)

    def verification(self, rows: int) -> Literal["full", "sample", "scan"]:
        """Return how a load of so many rows is verified."""
        return self.verify or ("full" if rows <= _ALL_READ_BACK else "sample")

    @property
    def tolerance(self) -> QuarantineTolerance:
        """How many rows of a batch may be refused."""
        rate = None if self.quarantine_rate is None else Decimal(self.quarantine_rate)
        return QuarantineTolerance(rows=self.quarantine_rows, rate=rate)

    @property
    def named_columns(self) -> frozenset[str]:
        """The columns that rules and thresholds name."""
        return frozenset(each.column for each in (*self.columns, *self.drift.columns))
