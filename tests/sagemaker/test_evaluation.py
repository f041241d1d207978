"""Tests of evaluations: which rows count, what a partition may know, and what is reported."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.learning.evaluation import Backtest, EvaluationError, backtest, evaluate
from sagemaker_scripts.learning.outcomes import PreparedTables, ScoredPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = PredictionSchema.from_document(
    {
        "key": "entity",
        "columns": [
            {"name": "entity", "type": "string", "nullable": False},
            {"name": "minutes", "type": "long", "nullable": False},
        ],
    }
)
NO_OUTCOMES = pa.table({"partition": pa.array([], "string"), "entity_id": pa.array([], "string")})


def functions_with_predict(predict: Callable[..., pd.DataFrame]) -> Any:
    """Return the functions of a model with the given `predict`."""
    return SimpleNamespace(predict=predict, inputs=ModelInputs(model="m", functions="acme.m", outcomes=True))


def table(**columns: Any) -> pa.Table:
    """Return a table with the given columns."""
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def backtest_of(*predicted: dict[str, list[Any]]) -> tuple[Backtest, list[pd.DataFrame | None]]:
    """Return the backtest of a model that predicts these columns day by day, and its previous batches."""
    given: list[pd.DataFrame | None] = []

    def predict(
        _features: pa.Table, _artifact: Any, previous: pd.DataFrame | None, *, partition: str
    ) -> pd.DataFrame:
        assert partition == f"2013-01-{len(given) + 1:02}"
        given.append(previous)
        return pd.DataFrame(predicted[len(given) - 1])

    days = {}
    for number, columns in enumerate(predicted, start=1):
        before = sorted(set(predicted[number - 2]["entity"]))
        known = table(entity_id=before, partition=f"2013-01-{number - 1:02}", seen=True)
        features = table(entity_id=columns["entity"], partition=f"2013-01-{number:02}")
        days[f"2013-01-{number:02}"] = PreparedTables(features, known)
    return backtest(functions_with_predict(predict), {}, days.items(), SMALL), given


def test_left_out_rows_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Rows that a load would refuse are not evaluated, but counted by reason and logged without values."""
    found, _ = backtest_of(
        {"entity": ["a", "b", "c"], "minutes": [10.5, 1.0, 2.5]}, {"entity": ["a", ""], "minutes": [1, 2]}
    )
    assert found.rows_left_out == {"wrong_type": 2, "empty_key": 1}
    assert [list(each.predictions["entity_id"]) for each in found.scored] == [["b"], ["a"]]
    assert "2 of 3 predictions of 2013-01-01 are not evaluated" in caplog.text
    assert "2 wrong_type; row 1: " in caplog.text
    assert "10.5" not in caplog.text


def test_rows_are_evaluated_after_cleaning() -> None:
    """A row that cleaning fixes is evaluated with the value that the stores will hold."""
    cleaning = Cleaning((ColumnCleaning(column="minutes", default="0"),))
    predicted = pd.DataFrame({"entity": ["a", "b"], "minutes": pd.Series([None, 2], dtype="Int64")})
    features = PreparedTables(table(entity_id=["a"], partition="d"), NO_OUTCOMES)
    found = backtest(
        functions_with_predict(lambda *_, **__: predicted), {}, [("d", features)], SMALL, cleaning
    )
    assert found.rows_left_out == {}
    assert list(found.scored[0].predictions["minutes"]) == [0, 2]


def test_evaluation_holds_features_of_one_day() -> None:
    """A backtest holds the features of at most one earlier day in memory."""
    alive: list[int] = []
    held: list[weakref.ref[pa.Table]] = []

    def days() -> Iterator[tuple[str, PreparedTables]]:
        for number in range(1, 6):
            gc.collect()
            alive.append(sum(each() is not None for each in held))
            day = f"2013-01-{number:02}"
            features = table(entity_id=["a"], partition=day)
            held.append(weakref.ref(features))
            prepared = PreparedTables(features, NO_OUTCOMES)
            del features
            yield day, prepared
            del prepared

    predicted = pd.DataFrame({"entity": ["a"], "minutes": [1]})
    found = backtest(functions_with_predict(lambda *_, **__: predicted), {}, days(), SMALL)
    assert len(found.scored) == 5
    assert max(alive) <= 1


def test_duplicate_keys_are_not_evaluated() -> None:
    """All rows of a duplicate key are left out of the evaluation and of the next day's previous batch."""
    found, given = backtest_of(
        {"entity": ["a", "a", "b"], "minutes": [1, 2, 3]}, {"entity": ["a", "b"], "minutes": [4, 5]}
    )
    assert found.rows_left_out == {"duplicate_key": 2}
    assert list(found.scored[0].predictions["entity_id"]) == ["b"]
    assert given[1] is not None
    assert list(given[1]["entity_id"]) == ["b"]


@pytest.mark.parametrize(
    ("entities", "minutes", "reasons"),
    [(["a", "b"], [0.5, 1.5], "2 wrong_type"), ([], [], "predict returned no rows")],
)
def test_evaluation_without_valid_rows_fails(entities: list[str], minutes: list[float], reasons: str) -> None:
    """The error names the reasons for which rows were left out."""
    with pytest.raises(EvaluationError, match=rf"no prediction of the evaluated partitions: {reasons}\."):
        backtest_of({"entity": entities, "minutes": minutes})


def test_null_prediction_counts_for_no_metric() -> None:
    """Null predictions are not evaluated, and an evaluation with only nulls fails."""
    keys = pd.DataFrame({"entity_id": ["a", "b"]})
    outcomes = table(entity_id=["a", "b"], partition="d", minutes=[5.0, 20.0])
    examples = table(minutes=[0.0, 10.0])
    metrics = [Metric("mae", "guess", "minutes")]

    def evaluated(guesses: list[float | None]) -> dict[str, Any]:
        predicted = keys.assign(guess=pd.Series(guesses, dtype="Float64"))
        return evaluate(metrics, [ScoredPartition("d", predicted)], outcomes, examples)[0]

    assert (evaluated([None, 21.0])["rows"], evaluated([None, 21.0])["value"]) == (1, 1.0)
    with pytest.raises(EvaluationError, match="No evaluated prediction has both guess"):
        evaluated([None, None])


def test_constant_prediction_does_not_beat_baselines() -> None:
    """Predicting the training mean is no better than the baselines; perfect predictions are."""
    examples = table(minutes=[0.0, 10.0, 50.0], late=[False, True, True])
    guessed = pd.DataFrame({"entity_id": list("abcd")})
    minutes = [5.0, 20.0, 30.0, 0.0]
    outcomes = table(partition="d", entity_id=list("abcd"), minutes=minutes, late=[False, True, True, False])
    metrics = [Metric("mae", "guess", "minutes"), Metric("roc_auc", "guess", "late")]
    mean, auc = evaluate(metrics, [ScoredPartition("d", guessed.assign(guess=20.0))], outcomes, examples)
    assert (mean["value"], mean["baselines"]["train_mean"]) == (11.25, 11.25)
    assert (auc["value"], auc["baselines"]) == (0.5, {"train_mean": 0.5})
    assert not mean["beats_baselines"]
    assert not auc["beats_baselines"]
    perfect = [ScoredPartition("d", guessed.assign(guess=minutes))]
    assert all(result["beats_baselines"] for result in evaluate(metrics, perfect, outcomes, examples))


def test_roc_auc_of_identical_outcomes_fails() -> None:
    """ROC AUC is undefined if all outcomes are the same, and the error says so."""
    guessed = pd.DataFrame({"entity_id": list("ab"), "guess": [0.1, 0.2]})
    with pytest.raises(
        EvaluationError, match=r"have the same late, .*different ones\. Evaluate more partitions"
    ):
        evaluate(
            [Metric("roc_auc", "guess", "late")],
            [ScoredPartition("d", guessed)],
            table(partition="d", entity_id=list("ab"), late=False),
            table(late=[True]),
        )
