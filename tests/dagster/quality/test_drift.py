"""The stability index and the findings of quality rules are computed from counts."""

from __future__ import annotations

import pytest

from mlpipe_dagster.quality.distribution_picture import Series, distribution_svg
from mlpipe_dagster.quality.quality_rules import (
    BatchFacts,
    ColumnFacts,
    Level,
    column_findings,
    comparison_findings,
    drift_findings,
    drift_levels,
)
from model_declaration.quality import Quality
from prediction_contract.rows.drift import Distribution, bins_for, distinct_edges, stability_index


def test_equal_shares_have_index_zero() -> None:
    """Only shares count, not the size of the batch."""
    assert stability_index(Distribution((10, 20, 30), 4), Distribution((5, 10, 15), 2)) == 0


def test_stability_index_matches_textbook_formula() -> None:
    """Half and half to one and three quarters: (0.25-0.5) ln 0.5 + (0.75-0.5) ln 1.5."""
    index = stability_index(Distribution((50, 50), 0), Distribution((25, 75), 0))
    assert index == pytest.approx(0.27465, abs=1e-5)


def test_new_nulls_raise_the_index() -> None:
    """Nulls are a bin, and a bin that was empty does not make the index infinite."""
    index = stability_index(Distribution((50, 50), 0), Distribution((40, 40), 20))
    assert 0.2 < index < 3
    assert stability_index(Distribution((), 0), Distribution((5,), 0)) == 0


def test_cumulative_counts_become_bins() -> None:
    """Rows above the last edge form the last bin, and nulls are counted apart."""
    assert Distribution.of_cumulative([3, 7], 10, 12) == Distribution((3, 4, 3), 2)
    assert Distribution.of_cumulative([], 10, 10) == Distribution((10,), 0)


@pytest.mark.parametrize(("rows", "bins"), [(0, 0), (39, 0), (40, 2), (199, 9), (10**9, 10)])
def test_number_of_bins_depends_on_rows(rows: int, bins: int) -> None:
    """Fewer than 40 rows have no bins, and there are never more than ten."""
    assert bins_for(rows) == bins


def test_equal_edges_are_merged() -> None:
    """Repeated quantiles give one edge, and a missing quantile gives none."""
    assert distinct_edges([1.0, 1.0, 2.0, None]) == (1.0, 2.0)


def test_most_severe_reached_threshold_counts() -> None:
    """A column's own thresholds replace the model's."""
    quality = Quality.model_validate(
        {"drift": {"warn": 0.1, "block": 0.5, "columns": [{"column": "calm", "warn": 5}]}}
    )
    judged = drift_levels(quality, {"wild": 0.5, "mild": 0.1, "still": 0.09, "calm": 4.0})
    assert {each.column: each.level for each in judged} == {
        "calm": Level.PASS,
        "wild": Level.BLOCK,
        "mild": Level.WARN,
        "still": Level.PASS,
    }
    assert [finding.level for finding in drift_findings(judged)] == [Level.BLOCK, Level.WARN]


def test_values_at_a_limit_pass() -> None:
    """The declared null rate, row ratios and coverage are still allowed."""
    quality = Quality.model_validate(
        {
            "columns": [{"column": "a", "null_rate": "0.1", "unique": True}],
            "rows": {"at_least": 0.5, "at_most": 2},
            "coverage": {"warn": 0.5, "block": 0.1},
        }
    )

    def found(nulls: int, rows: int, shared: int) -> list[Level]:
        facts = BatchFacts(
            rows=rows,
            columns={"a": ColumnFacts(nulls, 0, rows - nulls)},
            live_rows=10,
            shared_entities=shared,
        )
        return [
            finding.level
            for finding in (*column_findings(quality.columns, facts), *comparison_findings(quality, facts))
        ]

    assert found(1, 10, 5) == []
    assert found(2, 20, 10) == []
    assert found(0, 5, 5) == []
    assert found(3, 20, 4) == [Level.BLOCK, Level.WARN]
    assert found(0, 21, 0) == [Level.BLOCK, Level.BLOCK]


def test_distribution_image_escapes_names() -> None:
    """Names with markup are shown as text."""
    svg = distribution_svg("a<b", ("0", "1"), Series('"><script>', Distribution((1, 2, 3), 0)), None)
    assert "<script" not in svg
    assert svg.count("<rect") == 3
    assert ">0</text>" in svg
    assert ">1</text>" in svg


@pytest.mark.parametrize(("shared", "hints"), [(0, True), (1, False)])
def test_batch_without_shared_entities_hints_at_dated_ids(shared: int, *, hints: bool) -> None:
    """If entity ids contain a date, no batch shares entities and the rule can only block."""
    quality = Quality.model_validate({"coverage": {}})
    facts = BatchFacts(rows=100, columns={}, live_rows=100, shared_entities=shared)
    (finding,) = comparison_findings(quality, facts)
    assert finding.level is Level.BLOCK
    assert ("contain a date" in finding.text) is hints
