"""Rules that check a batch alone and against the live batch, and describe its faults in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mlpipe_dagster.pipeline.finding_level import Level
from model_declaration.quality import ColumnRule, Quality

# If ids contain a date or a run, each batch has entities of its own.
_NO_SHARED_ENTITY = (
    ". If entity ids contain a date, two batches never share one: leave `coverage` out of the declaration"
)


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """A fault of a batch: its level, and a sentence without a full stop."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """The counts of one column of a batch.

    Attributes:
        nulls: Rows without a value.
        outside: Values beyond the rule's bounds.
        distinct: Different values; None unless the rule requires unique values.
    """

    nulls: int
    outside: int
    distinct: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """The counts of a batch and of the live one.

    Attributes:
        rows: Accepted rows of the batch, which the warehouse holds.
        columns: The counts of each column with a rule, by name.
        live_rows: Accepted rows of the live batch; None if there is none to compare with.
        shared_entities: How many of the live batch's entities the batch has; None without a live batch.
    """

    rows: int
    columns: Mapping[str, ColumnFacts]
    live_rows: int | None = None
    shared_entities: int | None = None


@dataclass(frozen=True, slots=True)
class DriftedColumn:
    """The drift of one column: its stability index, and the level by its thresholds."""

    column: str
    index: float
    level: Level


def column_findings(rules: Iterable[ColumnRule], facts: BatchFacts) -> list[QualityFinding]:
    """Return the violations of column rules; rules of columns that the batch lacks are skipped."""
    return [
        QualityFinding(Level.BLOCK, text)
        for rule in rules
        if rule.column in facts.columns
        for text in _violations(rule, facts.columns[rule.column], facts.rows)
    ]


def _violations(rule: ColumnRule, found: ColumnFacts, rows: int) -> Iterator[str]:
    if rule.null_rate is not None and found.nulls > Decimal(rule.null_rate) * rows:
        yield (
            f"{rule.column} is null in {found.nulls} of {rows} rows, "
            f"but only a share of {rule.null_rate} is allowed"
        )
    if found.outside:
        bounds = f"from {rule.minimum or '-infinity'} to {rule.maximum or 'infinity'}"
        yield f"{rule.column} is outside the range {bounds} in {found.outside} of {rows} rows"
    valued = rows - found.nulls
    if rule.unique and found.distinct is not None and found.distinct < valued:
        yield f"{rule.column} has {found.distinct} different values in {valued} rows, but must be unique"


def comparison_findings(quality: Quality, facts: BatchFacts) -> list[QualityFinding]:
    """Return the violations of the rules on rows and entities compared with the live batch."""
    if not facts.live_rows:
        return []
    found = []
    if quality.rows is not None:
        ratio, wanted = facts.rows / facts.live_rows, quality.rows
        if not wanted.at_least <= ratio <= wanted.at_most:
            found.append(
                QualityFinding(
                    Level.BLOCK,
                    f"the batch has {facts.rows} accepted rows, {ratio:.2f} times the live batch's "
                    f"{facts.live_rows}; {wanted.at_least} to {wanted.at_most} times as many are allowed",
                )
            )
    if quality.coverage is not None and facts.shared_entities is not None:
        share = facts.shared_entities / facts.live_rows
        level = _level_below(share, quality.coverage.warn, quality.coverage.block)
        if level:
            found.append(
                QualityFinding(
                    level,
                    f"the batch has {facts.shared_entities} of the live batch's {facts.live_rows} entities, "
                    f"a share of {share:.2f}" + ("" if share else _NO_SHARED_ENTITY),
                )
            )
    return found


def _level_below(value: float, warn: float, block: float) -> Level:
    if value < block:
        return Level.BLOCK
    return Level.WARN if value < warn else Level.PASS


def drift_levels(
    quality: Quality, indices: Mapping[str, float], *, of_other_version: bool = False
) -> list[DriftedColumn]:
    """Return each column's stability index with its level, the largest index first.

    Args:
        quality: The model's rules.
        indices: The stability indices by column.
        of_other_version: Whether another model version scored the live batch. A new version is meant to
            predict differently, so drift then only warns.
    """
    judged = []
    for column, index in indices.items():
        thresholds = quality.drift.of(column)
        level = Level.PASS
        if thresholds.warn is not None and index >= thresholds.warn:
            level = Level.WARN
        if thresholds.block is not None and index >= thresholds.block:
            level = Level.WARN if of_other_version else Level.BLOCK
        judged.append(DriftedColumn(column, index, level))
    return sorted(judged, key=lambda each: -each.index)


def drift_findings(judged: Iterable[DriftedColumn]) -> list[QualityFinding]:
    """Return a finding for each column whose drift is at level WARN or BLOCK."""
    return [
        QualityFinding(each.level, f"{each.column} has drifted: its stability index is {each.index:.2f}")
        for each in judged
        if each.level
    ]


def highest_level(findings: Iterable[QualityFinding]) -> Level:
    """Return the highest level of the findings; PASS if there are none."""
    return max((finding.level for finding in findings), default=Level.PASS)
