"""Tests of the training job with a project's functions, codecs and metrics."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import TrainArguments
from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import InvalidInputsError
from sagemaker_scripts.codecs.codec import CodecError
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.features.feature_store import FeaturesError, PreparedPartition
from sagemaker_scripts.learning.model_artifact import found_model, load_model
from sagemaker_scripts.learning.outcomes import OutcomesError
from sagemaker_scripts.train_model import train
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.prepared_tables import prepared_of, write_feature_set
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sagemaker_scripts.functions.function_calls import ModelFunctions

SCHEMA = {
    "key": "entity_id",
    "columns": [
        {"name": "entity_id", "type": "string", "nullable": False},
        {"name": "spending", "type": "double", "nullable": False},
    ],
}
DAYS = [f"2013-02-{day:02}" for day in range(1, 8)]
LIGHTGBM = """
import lightgbm

def train(examples):
    rows = lightgbm.Dataset(examples[["visits"]].astype("float64"), examples["spent"])
    options = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "deterministic": True,
               "force_row_wise": True}
    return {"booster": lightgbm.train(options, rows, 20), "inputs": ["visits"]}
"""
PREDICT = """
import pandas as pd

def predict(features, model, previous):
    found = model["booster"].predict(features[model["inputs"]].astype("float64"))
    return pd.DataFrame({"entity_id": features["entity_id"], "spending": found})
"""
POLARS = """
def train(examples):
    return float((examples["spent"] / examples["visits"]).mean())
"""
PREDICT_POLARS = """
def predict(features, model, previous):
    return features.select("entity_id", spending=model * features["visits"])
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelFunctions]:
    """Give what writes a model's functions."""
    return function_writer(tmp_path, monkeypatch)


@pytest.fixture
def store() -> ObjectStore:
    """Give a bucket with seven days of features; each knows what was spent the day before."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    store.put("models/churn/schema.json", json.dumps(SCHEMA).encode())
    entities = [f"e{number}" for number in range(20)]
    for place, day in enumerate(DAYS):
        visits = [number % 7 + 1 for number in range(place, place + 20)]
        known = {"partition": [], "entity_id": [], "spent": []}
        if place:
            spent = [10.0 * (number % 7 + 1) for number in range(place - 1, place + 19)]
            known = {"partition": [DAYS[place - 1]] * 20, "entity_id": entities, "spent": spent}
        write_feature_set(
            store,
            prepared_of(pd.DataFrame({"entity_id": entities, "visits": visits}), pd.DataFrame(known)),
            model="churn",
            partition=day,
            run_id="run-1",
            code_version="v",
        )
    return store


NOT_EVALUATED = {"first_evaluated": None, "last_evaluated": None}


def arguments(store: ObjectStore, functions: ModelFunctions, **changes: Any) -> TrainArguments:
    """Return the arguments of a training on three days and an evaluation on three later ones."""
    key, content = functions.inputs.to_document()
    store.put(key, content)
    given = {
        "first_partition": DAYS[0],
        "last_partition": DAYS[2],
        "first_evaluated": DAYS[3] if functions.inputs.metrics else None,
        "last_evaluated": DAYS[5] if functions.inputs.metrics else None,
        "schema_key": "models/churn/schema.json",
        "inputs_key": key,
    }
    return TrainArguments(model="churn", bucket="mlpipe-data", code_version="v", **given | changes)


def of(functions: ModelFunctions, **changes: Any) -> ModelFunctions:
    """Return functions whose model has outcomes, and other inputs."""
    return replace(functions, inputs=replace(functions.inputs, **{"outcomes": True} | changes))


def test_a_model_of_another_library_is_trained_judged_and_saved(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """Nothing of it is known to the platform but its functions, and scikit-learn is not named."""
    metrics = (
        Metric("rmse", "spending", "spent"),
        Metric("r2", "spending", "spent"),
        Metric("pinball", "spending", "spent", 0.9),
        Metric("function", "spending", "spent", None, "sklearn.metrics:max_error", "lower"),
    )
    functions = of(write(train=LIGHTGBM, predict=PREDICT), metrics=metrics)
    found = train(arguments(store, functions), store, tmp_path)
    assert set(found["metrics"]["libraries"]) == {"lightgbm"}
    assert found["metrics"]["rows"] == 60
    names = [metric["name"] for metric in found["evaluation"]["metrics"]]
    assert names == ["rmse", "r2", "pinball_0.9", "max_error"]
    assert all(metric["beats_baselines"] for metric in found["evaluation"]["metrics"])
    assert {metric["rows"] for metric in found["evaluation"]["metrics"]} == {60}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("objects", "model.json"):
            archive.add(tmp_path / name, arcname=name)
    store.put("models/churn/t/output/model.tar.gz", packed.getvalue())
    pinned = found_model(store, "churn", "models/churn/t/output/model.tar.gz")
    loaded = load_model(store, "churn", pinned, Codecs())
    assert loaded.version == found["metrics"]["model_version"]
    assert type(loaded.artifact["booster"]).__module__ == "lightgbm.basic"
    again = train(arguments(store, functions), store, tmp_path / "..")
    assert again["metrics"]["model_version"] == loaded.version


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
    rows = features[["visits"]].to_numpy("float32")
    found = model.run(None, {"x": rows})[0]
    return pd.DataFrame({"entity_id": features["entity_id"], "spending": found[:, 0]})
"""


def test_what_is_judged_is_what_scoring_will_read(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """An ONNX graph is returned by train, and a session of onnxruntime received by predict."""
    functions = of(write(train=ONNX, predict=PREDICT_ONNX), metrics=(Metric("mae", "spending", "spent"),))
    found = train(arguments(store, functions), store, tmp_path)
    assert found["evaluation"]["metrics"][0]["value"] == pytest.approx(0, abs=1e-3)
    assert set(found["metrics"]["libraries"]) == {"onnx", "onnxruntime"}


def test_a_model_may_take_polars(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """Training, prediction and evaluation alike; one number is a whole model."""
    metrics = (Metric("mape", "spending", "spent"),)
    functions = of(write(tables="polars", train=POLARS, predict=PREDICT_POLARS), metrics=metrics)
    found = train(arguments(store, functions), store, tmp_path)
    assert found["evaluation"]["metrics"][0]["value"] == 0
    assert found["metrics"]["libraries"] == {}


def test_a_model_without_outcomes_learns_from_features_alone(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """As one does that finds what is unusual; it cannot be judged by what became of its predictions."""
    functions = write(train="def train(examples):\n    return sorted(examples.columns)\n")
    found = train(arguments(store, functions), store, tmp_path)
    assert json.loads((tmp_path / "objects" / "model.json").read_text()) == [
        "entity_id",
        "partition",
        "visits",
    ]
    assert "outcomes_known_at" not in found["metrics"]
    judged = of(functions, outcomes=False, metrics=(Metric("mae", "spending", "spent"),))
    assert train(arguments(store, judged, **NOT_EVALUATED), store, tmp_path)["evaluation"] is None
    with pytest.raises(JobArgumentsError, match=r"no function outcomes.*Write outcomes.py beside"):
        train(arguments(store, judged), store, tmp_path)


def test_what_cannot_be_trained_on_is_named(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """No outcome, an outcome of a feature's name, inputs of another model, and what no codec takes."""
    functions = of(write(train=LIGHTGBM, predict=PREDICT))
    with pytest.raises(FeaturesError, match="No outcome of the partitions to learn from is known"):
        train(arguments(store, functions, first_partition=DAYS[6], last_partition=DAYS[6]), store, tmp_path)
    other = of(functions, model="other")
    with pytest.raises(InvalidInputsError, match="is of other, and the job of churn"):
        train(arguments(store, other), store, tmp_path)
    clock = of(write(train="import datetime\ndef train(examples):\n    return datetime.date(2013, 2, 1)\n"))
    with pytest.raises(CodecError, match=r"train returned datetime\.date"):
        train(arguments(store, clock), store, tmp_path)
    outcomes = pd.DataFrame({"partition": [DAYS[0]], "entity_id": ["e1"], "visits": [1]})
    write_feature_set(
        store,
        prepared_of(pd.DataFrame({"entity_id": ["e1"]}), outcomes),
        model="churn",
        partition=DAYS[1],
        run_id="run-2",
        code_version="v",
    )
    with pytest.raises(OutcomesError, match="joined with: visits"):
        train(arguments(store, functions), store, tmp_path)


def test_features_from_before_the_model_had_outcomes_are_named(
    store: ObjectStore, write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """They would pass for features of partitions of which nothing is known yet."""
    functions = of(write(train=LIGHTGBM, predict=PREDICT))
    features = pa.table({"entity_id": ["e1"], "visits": [1]})
    write_feature_set(
        store,
        PreparedPartition(features, None),
        model="churn",
        partition=DAYS[3],
        run_id="run-2",
        code_version="v",
    )
    with pytest.raises(FeaturesError, match=f"features of {DAYS[3]} were prepared without outcomes"):
        train(arguments(store, functions, **NOT_EVALUATED), store, tmp_path)
