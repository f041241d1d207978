"""Tests of candidates that use a project's own functions, libraries and metrics, on an in-memory bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import InvalidInputsError
from sagemaker_scripts.codecs.codec import CodecError
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.features.feature_store import FeaturesError
from sagemaker_scripts.learning.model_artifact import found_model, load_model
from sagemaker_scripts.learning.outcomes import OutcomesError
from tests.sagemaker.retraining.retrained_model import DAYS, OUTCOMES, REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sagemaker.retraining.retrained_model import RetrainedModel

LAST = "2013-02-15"
LIGHTGBM = """
import lightgbm

def train(examples):
    rows = lightgbm.Dataset(examples[["visits"]].astype("float64"), examples["spent"])
    options = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "deterministic": True,
               "force_row_wise": True}
    return {"booster": lightgbm.train(options, rows, 20), "inputs": ["visits"]}
"""
PREDICT_LIGHTGBM = """
import pandas as pd

def predict(features, model, previous):
    found = model["booster"].predict(features[model["inputs"]].astype("float64"))
    return pd.DataFrame(
        {"entity_id": features["entity_id"], "region": features["region"], "spending": found}
    )
"""
ONNX = """
import numpy as np
import onnx
from onnx import helper, numpy_helper

def train(examples):
    slope = float((examples["spent"] / examples["visits"]).mean())
    weight = numpy_helper.from_array(np.array([[slope]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "line",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 1])], [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
"""
PREDICT_ONNX = """
import pandas as pd

def predict(features, model, previous):
    found = model.run(None, {"x": features[["visits"]].to_numpy("float32")})[0]
    return pd.DataFrame(
        {"entity_id": features["entity_id"], "region": features["region"], "spending": found[:, 0]}
    )
"""
POLARS = {
    "features": """
def features(partition, visits):
    return visits.filter(visits["partition"] == partition).select("entity_id", "region", "visits")
""",
    "outcomes": """
def outcomes(partition, visits):
    return visits.filter(visits["partition"] != partition).select("partition", "entity_id", "spent")
""",
    "train": """
def train(examples):
    return float((examples["spent"] / examples["visits"]).mean())
""",
    "predict": """
def predict(features, model, previous):
    return features.select("entity_id", "region", spending=model * features["visits"])
""",
}


def test_lightgbm_model_is_trained_judged_and_saved(
    make_model: Callable[..., RetrainedModel],
) -> None:
    """A LightGBM model needs only the project's functions: metrics, digest and libraries are recorded."""
    model = make_model(train=LIGHTGBM, predict=PREDICT_LIGHTGBM)
    model.judged_by(
        Metric("rmse", "spending", "spent"),
        Metric("r2", "spending", "spent"),
        Metric("pinball", "spending", "spent", 0.9),
        Metric("function", "spending", "spent", None, "sklearn.metrics:max_error", "lower"),
    )
    verdict = model.retrain(last_partition=LAST)
    assert [each.name for each in verdict.metrics] == [
        "rmse:spending",
        "r2:spending",
        "pinball_0.9:spending",
        "max_error:spending",
    ]
    assert [each.better for each in verdict.metrics] == ["lower", "higher", "lower", "lower"]
    assert all(each.beats_baselines for each in verdict.metrics)
    assert {each.rows for each in verdict.metrics} == {4 * 120}
    assert verdict.approval == "Approved"
    index = model.index()
    assert set(index["libraries"]) == {"lightgbm"}
    assert index["rows"] == verdict.trained_rows == 6 * 120
    assert verdict.libraries == index["libraries"]
    loaded = load_model(
        model.store, "churn", found_model(model.store, "churn", verdict.candidate_key), Codecs()
    )
    assert loaded.version == index["model_version"] == verdict.candidate_digest
    assert type(loaded.artifact["booster"]).__module__ == "lightgbm.basic"
    again = model.retrain("two", last_partition=LAST, attempt=2)
    assert again.candidate_digest == loaded.version


def test_onnx_graph_is_judged_as_loaded_session(make_model: Callable[..., RetrainedModel]) -> None:
    """An ONNX graph returned by train reaches predict as an onnxruntime session, as it will in scoring."""
    model = make_model(train=ONNX, predict=PREDICT_ONNX)
    verdict = model.retrain(last_partition=LAST)
    # About the mean absolute value of the noise in `visits_of`.
    assert verdict.metrics[0].candidate == pytest.approx(3.2, abs=0.2)
    assert verdict.approval == "Approved"
    assert set(model.index()["libraries"]) == {"onnx", "onnxruntime"}


def test_polars_model_is_trained_and_judged(make_model: Callable[..., RetrainedModel]) -> None:
    """All four functions receive Polars tables, and a single number can be the whole model."""
    model = make_model(**POLARS)
    model.inputs = replace(model.inputs, tables="polars")
    verdict = model.retrain(last_partition=LAST)
    assert verdict.metrics[0].candidate == pytest.approx(3.2, abs=0.2)
    assert verdict.approval == "Approved"
    assert model.index()["libraries"] == {}


def test_model_without_outcomes_trains_on_features(
    make_model: Callable[..., RetrainedModel],
) -> None:
    """An anomaly detector without outcomes is trained on features and approved by a person."""
    model = make_model(train="def train(examples):\n    return sorted(examples.columns)\n")
    model.inputs = replace(model.inputs, outcomes=False)
    model.judged_by()
    verdict = model.retrain(last_partition=LAST)
    found = found_model(model.store, "churn", verdict.candidate_key)
    assert load_model(model.store, "churn", found, Codecs()).artifact == [
        "entity_id",
        "partition",
        "region",
        "visits",
    ]
    assert "outcomes_known_at" not in model.index()
    assert verdict.approval == "PendingManualApproval"


def test_training_ignores_held_out_days(model: RetrainedModel) -> None:
    """Changing the data of the held-out days changes the verdict but not the trained model."""
    first = model.retrain("one", last_partition=LAST)
    assert model.index("one")["outcomes_known_at"] == first.first_held_out == "2013-02-12"
    features = model.store.listing("features/churn/")
    for key in (entry.key for entry in features):
        del model.store.client.objects[key]
    other = [f"e{number},{REGIONS[number % 2]},1,900" for number in range(120)]
    for day in DAYS[DAYS.index("2013-02-12") :]:
        content = "\n".join(["entity_id,region,visits,spent", *other])
        model.store.put(f"raw/visits/{day}.csv", content.encode())
    second = model.retrain("two", last_partition=LAST, attempt=2)
    assert second.metrics[0].candidate > 800 > first.metrics[0].candidate
    assert second.candidate_digest == first.candidate_digest


def test_training_without_known_outcomes_fails(make_model: Callable[..., RetrainedModel]) -> None:
    """Training fails with a clear message if the outcomes function returns no rows."""
    model = make_model(outcomes=OUTCOMES.replace("before = ", "before = visits.head(0)\n    visits = "))
    model.plan(last_partition=LAST)
    with pytest.raises(FeaturesError, match="No outcomes of the training partitions are known"):
        model.train()


def test_inputs_of_another_model_are_refused(model: RetrainedModel) -> None:
    """Training refuses an inputs document of another model, which would bring that model's data."""
    model.inputs = replace(model.inputs, model="other")
    model.plan(last_partition=LAST)
    with pytest.raises(InvalidInputsError, match="holds the inputs of other, but the job is for churn"):
        model.train()


def test_unsupported_model_type_is_named(make_model: Callable[..., RetrainedModel]) -> None:
    """An object that no codec can save is named by its type when training fails."""
    model = make_model(train="import datetime\ndef train(examples):\n    return datetime.date(2013, 2, 1)\n")
    model.plan(last_partition=LAST)
    with pytest.raises(CodecError, match=r"train returned datetime\.date"):
        model.train()


def test_outcome_column_named_like_feature_is_refused(make_model: Callable[..., RetrainedModel]) -> None:
    """An outcome column with the name of a feature is refused and named, because it would be ambiguous."""
    model = make_model(outcomes=OUTCOMES.replace(".assign(big", ".assign(visits=1, big"))
    model.plan(last_partition=LAST)
    with pytest.raises(OutcomesError, match="joined with: visits"):
        model.train()
