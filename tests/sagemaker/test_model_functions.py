"""Tests of the models' own functions on small real data."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.metrics import Metric, Metrics
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_rows import prediction_lines
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.learning.evaluation import Backtest, EvaluationError, backtest, evaluate
from sagemaker_scripts.learning.model_artifact import save_model
from sagemaker_scripts.learning.outcomes import (
    ScoredPartition,
    newest_outcomes,
    with_known_outcomes,
    with_outcomes,
)
from sagemaker_scripts.model_functions import Artifact, PreparedFeatures, model_functions
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import SCHEMAS, SOURCES, TRAINING
from tests.sagemaker.real_flights import inputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagemaker_scripts.model_functions import ModelFunctions

DAYS = [f"2013-01-{day:02}" for day in range(1, 13)]
MODELS = sorted(SCHEMAS)
_PREPARED: dict[str, dict[str, PreparedFeatures]] = {}


def prepared_days(model: str) -> dict[str, PreparedFeatures]:
    """Return the features of 5 to 12 January, each from the four days before."""
    if model not in _PREPARED:
        days: dict[str, PreparedFeatures] = {}
        for place in range(4, len(DAYS)):
            prepared = model_functions(EXAMPLE.functions_package(model)).features(
                *inputs_of(DAYS[place], DAYS[place - 4 : place])
            )
            days[DAYS[place]] = prepared._replace(features=prepared.features.assign(partition=DAYS[place]))
        _PREPARED[model] = days
    return _PREPARED[model]


def trained_on_five_days(model: str) -> tuple[ModelFunctions, Artifact, pd.DataFrame]:
    """Return a model's functions, its artifact after 5 to 9 January, and what it was trained on."""
    functions, days = model_functions(EXAMPLE.functions_package(model)), list(prepared_days(model).values())
    features = pd.concat([day.features for day in days[:5]], ignore_index=True)
    examples = with_outcomes(features, newest_outcomes(day.outcomes for day in days[:6]))
    return functions, functions.train(examples), examples


@pytest.mark.parametrize("model", MODELS)
def test_each_scheduled_entity_has_one_row_of_complete_features(model: str) -> None:
    """No entity comes twice, no feature is missing, and entities are named as the design says."""
    features = prepared_days(model)["2013-01-10"].features
    assert features["entity_id"].is_unique
    assert not features.isna().any(axis=None)
    named = {"flight_delay": "AA-1141-JFK", "airport_congestion": "EWR-17"}
    assert named[model] in set(features["entity_id"])


@pytest.mark.parametrize("model", MODELS)
def test_predictions_are_declared_to_come_from_features_that_there_are(model: str) -> None:
    """The lineage of columns names what the features hold, all inputs of the model among it."""
    sources, prepared = SOURCES[model], prepared_days(model)["2013-01-10"].features
    assert sources <= set(prepared.columns)
    _, artifact, _ = trained_on_five_days(model)
    assert set(artifact["inputs"]) <= sources


@pytest.mark.parametrize("model", MODELS)
def test_the_first_day_of_all_has_features_too(model: str) -> None:
    """Without any history the features are complete, and there are no outcomes."""
    schedule, history = inputs_of("2013-01-01", ["2013-01-02"])
    prepared = model_functions(EXAMPLE.functions_package(model)).features(schedule, history.iloc[:0])
    assert not prepared.features.isna().any(axis=None)
    assert prepared.outcomes.empty


@pytest.mark.parametrize("model", MODELS)
def test_predictions_fit_the_schema_row_by_row(model: str) -> None:
    """Every row is one that both stores can hold, with and without a previous batch."""
    functions, artifact, _ = trained_on_five_days(model)
    days = prepared_days(model)
    predictions = functions.predict(days["2013-01-10"].features, artifact, None)
    assert predictions["correction_minutes"].isna().all()
    known = with_outcomes(predictions.assign(partition="2013-01-10"), days["2013-01-11"].outcomes)
    following = functions.predict(days["2013-01-11"].features, artifact, known)
    for rows in (predictions, following):
        lines = prediction_lines(SCHEMAS[model], rows)
        assert [line.refusal for line in lines if line.refusal] == []
        assert len(lines) == len(rows)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_input_gives_the_same_artifact_and_predictions(model: str) -> None:
    """Training and predicting twice differs in nothing."""
    features = prepared_days(model)["2013-01-10"].features
    once, again = (trained_on_five_days(model) for _ in range(2))
    pd.testing.assert_frame_equal(
        once[0].predict(features, once[1], None), again[0].predict(features, again[1], None)
    )


def test_a_carrier_that_was_later_than_predicted_is_predicted_later() -> None:
    """What became of the previous batch moves its own carrier and origin, and no other."""
    functions, artifact, _ = trained_on_five_days("flight_delay")
    features = prepared_days("flight_delay")["2013-01-10"].features
    plain = functions.predict(features, artifact, None)
    mine = (features["carrier"] == "UA") & (features["origin"] == "EWR")
    previous = plain[mine].assign(arrival_delay_minutes=40.0, arrived_late=True)
    corrected = functions.predict(features, artifact, previous)
    moved = corrected["expected_delay_minutes"] - plain["expected_delay_minutes"]
    assert (moved[mine] > 0).all()
    assert (corrected["delay_probability"] > plain["delay_probability"])[mine].all()
    assert (moved[~mine] == 0).all()
    assert set(corrected["correction_minutes"][~mine]) == {Decimal("0.00")}


def test_an_airport_that_was_later_than_predicted_is_predicted_later() -> None:
    """What became of the previous batch moves its own airport, and no other."""
    functions, artifact, _ = trained_on_five_days("airport_congestion")
    features = prepared_days("airport_congestion")["2013-01-10"].features
    plain = functions.predict(features, artifact, None)
    mine = features["origin"] == "LGA"
    corrected = functions.predict(features, artifact, plain[mine].assign(departure_delay_minutes=50.0))
    moved = corrected["expected_departure_delay_minutes"] - plain["expected_departure_delay_minutes"]
    assert (moved[mine] > 0).all()
    assert (moved[~mine] == 0).all()


@pytest.mark.parametrize("model", MODELS)
def test_an_evaluated_day_is_scored_with_what_was_known_when_it_began(model: str) -> None:
    """The first day has no previous batch; the second is corrected by the first as far as that was known."""
    functions, artifact, examples = trained_on_five_days(model)
    days = {day: prepared_days(model)[day] for day in ("2013-01-10", "2013-01-11")}
    scored, left_out = backtest(functions, artifact, days.items(), SCHEMAS[model])
    assert not left_out
    first, second = scored
    known = with_known_outcomes(first, days["2013-01-11"].outcomes)
    assert 0 < len(known) < len(first.predictions)
    expected = functions.predict(days["2013-01-11"].features, artifact, known)
    lines = prediction_lines(SCHEMAS[model], expected)
    assert prediction_lines(SCHEMAS[model], second.predictions) == lines
    outcomes = newest_outcomes(prepared_days(model)[day].outcomes for day in (*days, "2013-01-12"))
    for result in evaluate(Metrics(TRAINING[model]["metrics"]).each, scored, outcomes, examples):
        assert result["rows"] > len(known)


SMALL = PredictionSchema.from_document(
    {
        "key": "entity",
        "columns": [
            {"name": "entity", "type": "string", "nullable": False},
            {"name": "minutes", "type": "long", "nullable": False},
        ],
    }
)
NO_OUTCOMES = pd.DataFrame({"partition": [], "entity_id": []}, dtype="str")


def backtest_of(*predicted: dict[str, list[Any]]) -> tuple[Backtest, list[pd.DataFrame | None]]:
    """Return the backtest of a model that predicts these columns day by day, and what it was given."""
    given: list[pd.DataFrame | None] = []

    def predict(_features: pd.DataFrame, _artifact: Artifact, previous: pd.DataFrame | None) -> pd.DataFrame:
        given.append(previous)
        return pd.DataFrame(predicted[len(given) - 1])

    days = {}
    for number, columns in enumerate(predicted, start=1):
        before = pd.DataFrame({"entity_id": sorted(set(predicted[number - 2]["entity"]))})
        known = before.assign(partition=f"2013-01-{number - 1:02}", seen=True)
        features = pd.DataFrame({"entity_id": columns["entity"], "partition": f"2013-01-{number:02}"})
        days[f"2013-01-{number:02}"] = PreparedFeatures(features, known)
    functions = SimpleNamespace(predict=predict)
    return backtest(functions, {}, days.items(), SMALL), given


def test_an_evaluation_says_which_rows_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    """A model that is evaluated on the rest of its rows must not pass for good on all."""
    found, _ = backtest_of(
        {"entity": ["a", "b", "c"], "minutes": [10.5, 1.0, 2.5]}, {"entity": ["a", ""], "minutes": [1, 2]}
    )
    assert found.rows_left_out == {"wrong_type": 2, "empty_key": 1}
    assert [list(each.predictions["entity_id"]) for each in found.scored] == [["b"], ["a"]]
    assert "2 of 3 predictions of 2013-01-01 are not evaluated" in caplog.text
    assert "2 wrong_type; row 1: " in caplog.text
    assert "10.5" not in caplog.text


def test_an_evaluation_checks_rows_as_the_load_cleans_them() -> None:
    """A row that cleaning mends is evaluated with what the stores will hold for it."""
    cleaning = Cleaning((ColumnCleaning(column="minutes", default="0"),))
    predicted = pd.DataFrame({"entity": ["a", "b"], "minutes": pd.Series([None, 2], dtype="Int64")})
    features = PreparedFeatures(pd.DataFrame({"entity_id": ["a"], "partition": "d"}), NO_OUTCOMES)
    functions = SimpleNamespace(predict=lambda *_: predicted)
    found = backtest(functions, {}, [("d", features)], SMALL, cleaning)
    assert found.rows_left_out == {}
    assert list(found.scored[0].predictions["minutes"]) == [0, 2]


def test_an_evaluation_holds_the_features_of_one_day() -> None:
    """However many days are evaluated, the job's memory is that of one of them and of the predictions."""
    alive: list[int] = []
    held: list[weakref.ref[pd.DataFrame]] = []

    def days() -> Iterator[tuple[str, PreparedFeatures]]:
        for number in range(1, 6):
            gc.collect()
            alive.append(sum(each() is not None for each in held))
            day = f"2013-01-{number:02}"
            features = pd.DataFrame({"entity_id": ["a"], "partition": day})
            held.append(weakref.ref(features))
            prepared = PreparedFeatures(features, NO_OUTCOMES)
            del features
            yield day, prepared
            del prepared

    predicted = pd.DataFrame({"entity": ["a"], "minutes": [1]})
    found = backtest(SimpleNamespace(predict=lambda *_: predicted), {}, days(), SMALL)
    assert len(found.scored) == 5
    assert max(alive) <= 1


def test_an_evaluation_leaves_out_rows_that_share_their_key() -> None:
    """The load refuses all of them, so neither the metrics nor the next day's predictions may know them."""
    found, given = backtest_of(
        {"entity": ["a", "a", "b"], "minutes": [1, 2, 3]}, {"entity": ["c"], "minutes": [4]}
    )
    assert found.rows_left_out == {"duplicate_key": 2}
    assert list(found.scored[0].predictions["entity_id"]) == ["b"]
    assert given[1] is not None
    assert list(given[1]["entity_id"]) == ["b"]


@pytest.mark.parametrize(
    ("entities", "minutes", "reasons"),
    [(["a", "b"], [0.5, 1.5], "2 wrong_type"), ([], [], "predict returned no row")],
)
def test_an_evaluation_without_one_row_fails(entities: list[str], minutes: list[float], reasons: str) -> None:
    """The error names the reasons, instead of speaking of unknown outcomes."""
    with pytest.raises(EvaluationError, match=rf"no prediction of the evaluated partitions: {reasons}\."):
        backtest_of({"entity": entities, "minutes": minutes})


def test_a_prediction_without_a_value_counts_for_no_metric() -> None:
    """Cleaning may leave its column out, or it may take null; the result counts the evaluated rows."""
    keys = pd.DataFrame({"entity_id": ["a", "b"]})
    outcomes = keys.assign(partition="d", minutes=[5.0, 20.0])
    examples = pd.DataFrame({"minutes": [0.0, 10.0]})
    metrics = [Metric("mae", "guess", "minutes")]

    def evaluated(guesses: list[float | None]) -> dict[str, Any]:
        predicted = keys.assign(guess=pd.Series(guesses, dtype="Float64"))
        return evaluate(metrics, [ScoredPartition("d", predicted)], outcomes, examples)[0]

    assert (evaluated([None, 21.0])["rows"], evaluated([None, 21.0])["value"]) == (1, 1.0)
    with pytest.raises(EvaluationError, match="No evaluated prediction has a guess"):
        evaluated([None, None])


def test_a_useless_model_does_not_beat_its_baselines() -> None:
    """The mean of the training days as prediction is no better than itself, nor is a coin."""
    examples = pd.DataFrame({"minutes": [0.0, 10.0, 50.0], "late": [False, True, True]})
    keys = pd.DataFrame({"partition": ["d"] * 4, "entity_id": list("abcd")})
    outcomes = keys.assign(minutes=[5.0, 20.0, 30.0, 0.0], late=[False, True, True, False])
    metrics = [Metric("mae", "guess", "minutes"), Metric("roc_auc", "guess", "late")]
    guessed = keys.drop(columns="partition")
    mean, auc = evaluate(metrics, [ScoredPartition("d", guessed.assign(guess=20.0))], outcomes, examples)
    assert (mean["value"], mean["baselines"]["train_mean"]) == (11.25, 11.25)
    assert (auc["value"], auc["baselines"]) == (0.5, {"train_mean": 0.5})
    assert not mean["beats_baselines"]
    assert not auc["beats_baselines"]
    perfect = [ScoredPartition("d", guessed.assign(guess=outcomes["minutes"]))]
    assert all(result["beats_baselines"] for result in evaluate(metrics, perfect, outcomes, examples))


def test_outcomes_that_are_all_alike_give_no_area_under_the_curve() -> None:
    """Nothing can be told apart then, and no number would be true."""
    keys = pd.DataFrame({"partition": ["d"] * 2, "entity_id": list("ab")})
    with pytest.raises(
        EvaluationError, match=r"have the same late, .*different ones\. Evaluate more partitions"
    ):
        evaluate(
            [Metric("roc_auc", "guess", "late")],
            [ScoredPartition("d", keys[["entity_id"]].assign(guess=[0.1, 0.2]))],
            keys.assign(late=False),
            pd.DataFrame({"late": [True]}),
        )


def test_a_model_without_code_is_refused_by_name() -> None:
    """One that no package has, and none at all."""
    for name in ("flights.defs.no_such_model", "no_such_package.defs.flight_delay", None):
        with pytest.raises(InvalidNameError):
            model_functions(name)


@pytest.mark.parametrize("model", MODELS)
def test_a_saved_models_version_is_that_of_its_content(tmp_path: Path, model: str) -> None:
    """Training again on the same days gives the same version, another coefficient another one."""
    once, again = (trained_on_five_days(model)[1] for _ in range(2))
    version = save_model(tmp_path, model, once, {}, Codecs()).version
    assert once["minutes"] is not again["minutes"]
    assert save_model(tmp_path, model, again, {}, Codecs()).version == version
    again["minutes"][-1].coef_[0] += 1e-9
    assert save_model(tmp_path, model, again, {}, Codecs()).version != version


def test_a_saved_models_version_tells_all_values_apart(tmp_path: Path) -> None:
    """Plain values and arrays alike, also under the names that skops uses itself."""
    artifacts = [
        {"weights": np.arange(3)},
        {"weights": np.arange(3) * 2},
        {"weights": [0, 1, 2]},
        {"file": "a", "__id__": 1},
        {"file": "b", "__id__": 1},
        {"file": "a", "__id__": 2},
    ]
    versions = {save_model(tmp_path, "m", artifact, {}, Codecs()).version for artifact in artifacts}
    assert len(versions) == len(artifacts)


def test_preparing_features_does_not_load_scikit_learn() -> None:
    """Its import costs seconds, and only training and predicting need it."""
    program = (
        "import sys; from sagemaker_scripts import prepare_features; "
        "from sagemaker_scripts.model_functions import model_functions; "
        "model_functions('flights.defs.flight_delay').features; print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
