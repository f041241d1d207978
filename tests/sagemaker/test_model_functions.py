"""Tests of the example's models in the platform: their features, predictions, evaluation and versions."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.learning.evaluation import backtest, evaluate
from sagemaker_scripts.learning.model_artifact import save_model
from sagemaker_scripts.learning.outcomes import (
    PreparedTables,
    ScoredPartition,
    joined_tables,
    newest_outcomes,
    with_known_outcomes,
    with_outcomes,
)
from sagemaker_scripts.tables.given_tables import pandas_table
from tests.batches.rows.row_reference import encoded
from tests.sagemaker import real_flights
from tests.sagemaker.declared_models import INPUTS, SCHEMAS, SOURCES

DAYS = [f"2013-01-{day:02}" for day in range(1, 13)]
MODELS = sorted(SCHEMAS)
_PREPARED: dict[str, dict[str, PreparedTables]] = {}


def functions_of(model: str) -> ModelFunctions:
    """Return a model's functions."""
    return ModelFunctions(INPUTS[model])


def prepared_days(model: str) -> dict[str, PreparedTables]:
    """Return the features of 5 to 12 January, each from the four days before."""
    if model not in _PREPARED:
        days = DAYS[4:]
        _PREPARED[model] = {
            day: PreparedTables(
                each.features.append_column("partition", pa.repeat(day, each.features.num_rows)),
                each.outcomes,
            )
            for day, each in zip(days, real_flights.prepared_days(model, days, 4), strict=True)
        }
    return _PREPARED[model]


def trained_on_five_days(model: str) -> tuple[ModelFunctions, Any, pa.Table]:
    """Return a model's functions, what they train on 5 to 9 January, and the training examples."""
    functions, days = functions_of(model), prepared_days(model)
    outcomes = newest_outcomes([each.outcomes for each in days.values() if each.outcomes][:6])
    examples = joined_tables(
        [with_outcomes(days[day].features, outcomes, day) for day in list(days)[:5]], "The features"
    )
    return functions, functions.train(examples), examples


def features_of(model: str, day: str) -> pd.DataFrame:
    """Return the features of a day as the model's functions get them."""
    return pandas_table(prepared_days(model)[day].features)


@pytest.mark.parametrize("model", MODELS)
def test_declared_column_sources_are_features(model: str) -> None:
    """The features that `derived_from` names exist, and include all inputs of the trained model."""
    sources, prepared = SOURCES[model], features_of(model, "2013-01-10")
    assert sources <= set(prepared.columns)
    _, artifact, _ = trained_on_five_days(model)
    assert set(artifact["inputs"]) <= sources


@pytest.mark.parametrize("model", MODELS)
def test_predictions_match_the_schema(model: str) -> None:
    """With and without a previous batch, both stores can hold every predicted row."""
    functions, artifact, _ = trained_on_five_days(model)
    days = prepared_days(model)
    predictions = functions.predict(days["2013-01-10"].features, artifact, None, partition="2013-01-10")
    assert predictions["correction_minutes"].isna().all()
    known = with_known_outcomes(ScoredPartition("2013-01-10", predictions), days["2013-01-11"].outcomes)
    following = functions.predict(days["2013-01-11"].features, artifact, known, partition="2013-01-11")
    for rows in (predictions, following):
        found = encoded(SCHEMAS[model], rows)
        assert found.refusals == {}
        assert len(found) == len(rows)


@pytest.mark.parametrize("model", MODELS)
def test_evaluated_day_uses_outcomes_known_when_it_began(model: str) -> None:
    """The second evaluated day is corrected only by those outcomes of the first that were known then."""
    functions, artifact, examples = trained_on_five_days(model)
    days = {day: prepared_days(model)[day] for day in ("2013-01-10", "2013-01-11")}
    scored, left_out = backtest(functions, artifact, days.items(), SCHEMAS[model])
    assert not left_out
    first, second = scored
    known = with_known_outcomes(first, days["2013-01-11"].outcomes)
    assert 0 < len(known) < len(first.predictions)
    expected = functions.predict(days["2013-01-11"].features, artifact, known, partition="2013-01-11")
    lines = encoded(SCHEMAS[model], expected).lines
    assert encoded(SCHEMAS[model], second.predictions).lines.equals(lines)
    later = (prepared_days(model)[day].outcomes for day in (*days, "2013-01-12"))
    outcomes = newest_outcomes(table for table in later if table)
    for result in evaluate(INPUTS[model].metrics, scored, outcomes, examples):
        assert result["rows"] > len(known)


@pytest.mark.parametrize("model", MODELS)
def test_version_of_a_saved_model_depends_on_its_content(tmp_path: Path, model: str) -> None:
    """Training again on the same days gives the same version, and a changed coefficient another one."""
    once, again = (trained_on_five_days(model)[1] for _ in range(2))
    version = save_model(tmp_path, model, once, {}, Codecs()).version
    assert once["minutes"] is not again["minutes"]
    assert save_model(tmp_path, model, again, {}, Codecs()).version == version
    again["minutes"][-1].coef_[0] += 1e-9
    assert save_model(tmp_path, model, again, {}, Codecs()).version != version


def test_versions_of_different_values_differ(tmp_path: Path) -> None:
    """Values and arrays get different versions, also under names that skops itself uses."""
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


def test_feature_preparation_imports_no_unneeded_library() -> None:
    """The features job does not spend seconds on importing scikit-learn, Delta or Snowflake libraries."""
    program = (
        "import sys; from sagemaker_scripts import prepare_features; import flights.readers; "
        "from flights.defs.flight_delay import features, outcomes; "
        "print([name for name in ('sklearn', 'deltalake', 'snowflake.connector') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
