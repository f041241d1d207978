"""Tests of what Dagster shows of a trained model."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlpipe_dagster.training.trained_model_asset import training_metadata

METRICS = {"model_version": "0123456789abcdef", "rows": 20000, "inputs": ["0" * 64]}


def evaluation(*, better: bool) -> dict[str, Any]:
    """Return an evaluation as the training job leaves it."""
    return {
        "evaluated_on": ["2013-02-01", "2013-02-26"],
        "metrics": [
            {
                "kind": "mae",
                "value": 21.6,
                "baselines": {"train_mean": 23.8, "train_median": 22.2},
                "beats_baselines": better,
                "rows": 21755,
            },
            {
                "kind": "roc_auc",
                "value": 0.64,
                "baselines": {"train_mean": 0.5},
                "beats_baselines": True,
                "rows": 21755,
            },
        ],
    }


def test_a_trained_model_shows_its_figures_beside_the_baselines() -> None:
    """As numbers, which Dagster plots over time, as one line for people, and whole."""
    shown = training_metadata(METRICS, evaluation(better=True))
    assert {name: shown[name] for name in ("mae", "mae_train_mean", "mae_train_median")} == {
        "mae": 21.6,
        "mae_train_mean": 23.8,
        "mae_train_median": 22.2,
    }
    assert (shown["roc_auc"], shown["roc_auc_train_mean"]) == (0.64, 0.5)
    assert shown["held_out_report"] == (
        "2013-02-01 to 2013-02-26: mae 21.6 on 21755 rows, better than train mean 23.8, train median 22.2; "
        "roc_auc 0.64 on 21755 rows, better than train mean 0.5"
    )
    assert shown["evaluation"] == dg.MetadataValue.json(evaluation(better=True))


def test_two_metrics_of_a_kind_are_shown_apart() -> None:
    """Quantiles have names of their own, and equal names get the column's."""

    def metric(name: str, predicted: str, **more: Any) -> dict[str, Any]:
        given = {"name": name, "kind": name.partition("_")[0], "predicted": predicted, "actual": "spent"}
        judged = {"value": 1.0, "baselines": {"train_mean": 2.0}, "beats_baselines": True, "rows": 10}
        return given | judged | more

    metrics = [
        metric("pinball_0.1", "low"),
        metric("pinball_0.9", "high"),
        metric("mape", "low", rows_left_out=3),
        metric("mape", "high"),
    ]
    shown = training_metadata(METRICS, {"evaluated_on": ["2013-02-01", "2013-02-26"], "metrics": metrics})
    assert {"pinball_0.1", "pinball_0.9_train_mean", "mape_low", "mape_high_train_mean"} <= set(shown)
    assert "mape 1.0 on 10 rows and not on 3 whose spent is 0, better than" in shown["held_out_report"]


def test_a_model_that_is_no_better_says_so() -> None:
    """A person who reads the one line does not compare numbers."""
    report = training_metadata(METRICS, evaluation(better=False))["held_out_report"]
    assert "mae 21.6 on 21755 rows, NOT better than" in report
    assert "roc_auc 0.64 on 21755 rows, better than" in report


def test_rows_that_were_not_evaluated_are_told() -> None:
    """Figures of a twentieth of the rows do not pass for figures of all."""
    left_out = {"rows_left_out": {"wrong_type": 950, "duplicate_key": 2}}
    report = training_metadata(METRICS, evaluation(better=True) | left_out)["held_out_report"]
    assert report.endswith(
        "; rows that a load would refuse and that were not evaluated: 950 wrong_type, 2 duplicate_key"
    )


def test_a_model_that_was_not_evaluated_shows_no_figures() -> None:
    """Its version and rows are shown all the same."""
    assert training_metadata(METRICS, None) == {"model_version": "0123456789abcdef", "rows": 20000}
    versions = {"lightgbm": "4.7.0", "sklearn": "1.9.1"}
    shown = training_metadata(METRICS | {"libraries": versions}, None)
    assert shown["libraries"] == "lightgbm 4.7.0, sklearn 1.9.1"
