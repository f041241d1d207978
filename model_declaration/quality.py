"""The conditions for a batch to be loaded and published."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from model_declaration.inputs.declared_metrics import DeclaredMetric, require_different
from model_declaration.validation import DeclarationPart, NumberText, Share
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

# Reading a row back costs a fifth of writing it, and takes as long.
_ALL_READ_BACK = 50_000


class ColumnRule(DeclarationPart):
    """A rule for one column's values; a batch that breaks it is not published automatically.

    Attributes:
        column: One of the model's columns.
        null_rate: The highest allowed share of nulls.
        minimum: The lowest allowed value of a numeric column.
        maximum: The highest allowed value of a numeric column.
        unique: Whether values must be unique.
    """

    column: str
    null_rate: Share | None = None
    minimum: NumberText | None = None
    maximum: NumberText | None = None
    unique: bool = False

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        """Refuse a rule without conditions, and one that no value can fulfil."""
        if not self.unique and all(each is None for each in (self.null_rate, self.minimum, self.maximum)):
            raise ValueError("the rule needs null_rate, minimum, maximum or unique")
        bounds = (self.minimum, self.maximum)
        if None not in bounds and Decimal(str(self.minimum)) > Decimal(str(self.maximum)):
            raise ValueError(f"minimum {self.minimum} is greater than maximum {self.maximum}")
        return self


class RowsAgainstLive(DeclarationPart):
    """How many accepted rows a batch must have, as a multiple of the live batch's."""

    at_least: float = Field(default=0.5, ge=0, le=1)
    at_most: float = Field(default=2.0, ge=1)


class CoverageOfLive(DeclarationPart):
    """The share of the live batch's entities that a batch must have.

    Attributes:
        warn: The check warns below this share.
        block: The batch is not published automatically below this share.
    """

    warn: float = Field(default=0.9, ge=0, le=1)
    block: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse thresholds that block before they warn."""
        if self.block > self.warn:
            raise ValueError(f"block {self.block} is greater than warn {self.warn}")
        return self


class DriftThresholds(DeclarationPart):
    """How far a column's values may drift, as a population stability index; None for no limit.

    Attributes:
        warn: The check warns from this value on.
        block: The batch is not published automatically from this value on.
    """

    warn: float | None = Field(default=0.25, gt=0)
    block: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse thresholds that block before they warn."""
        if self.warn is not None and self.block is not None and self.block < self.warn:
            raise ValueError(f"block {self.block} is less than warn {self.warn}")
        return self


class ColumnDrift(DriftThresholds):
    """The thresholds of one column."""

    column: str


class Drift(DriftThresholds):
    """The thresholds of all numeric and boolean columns, with overrides for single columns."""

    columns: list[ColumnDrift] = Field(default_factory=list)

    def of(self, column: str) -> DriftThresholds:
        """Return the thresholds of a column."""
        return next((each for each in self.columns if each.column == column), self)


class Accuracy(DriftThresholds):
    """How much worse published predictions may be than their model version was at its promotion.

    Thresholds are shares of the first metric's value at the promotion.

    Attributes:
        warn: The check warns from this value on; None for never.
        block: The check fails from this value on, and after two such batches no further batch of the version
            is published automatically; None for never.
        metrics: The metrics of a model that is not trained here; others use those of `training`.
    """

    warn: float | None = Field(default=0.1, gt=0)
    metrics: list[DeclaredMetric] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_different_metrics(self) -> Self:
        """Refuse two metrics with the same name and column."""
        require_different(self.metrics)
        return self


class Quality(DeclarationPart):
    """The conditions for a batch to be loaded and to be published automatically.

    Attributes:
        quarantine_rows: How many refused rows are tolerated.
        quarantine_rate: Which share of refused rows is tolerated; the larger of the two limits counts. If
            neither is declared, `QuarantineTolerance` has the default.
        verify: Whether a load reads back every row (`full`), one in a hundred (`sample`), or every row and
            then scans the whole online table for extra items (`scan`); by default `full` up to 50,000 rows,
            else `sample`.
        columns: Rules for single columns.
        rows: The number of accepted rows compared with the live batch; by default not checked.
        coverage: The entities compared with the live batch; by default not checked.
        drift: The values compared with the live batch.
        accuracy: The accuracy of published predictions compared with that at the promotion.
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
        """Return how a load with this number of rows is verified."""
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
