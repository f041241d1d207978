"""Tests of each codec with its real library: round trips, refusals, and that no pickle is read."""

# The libraries annotate few of their types.
# pyright: reportArgumentType=false

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import onnx
import pytest
import safetensors.numpy
import skops.io
import xgboost
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from prediction_contract.jobs.model_inputs import CODECS as DECLARED_CODECS
from sagemaker_scripts.codecs import skops_objects
from sagemaker_scripts.codecs.codec import CodecError, content_digest, library_versions
from sagemaker_scripts.codecs.known_codecs import Codecs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] - X[:, 1]
CODECS = Codecs()


def lightgbm_model(rounds: int = 3) -> lightgbm.Booster:
    """Return a small booster, the same at each call."""
    options = {"objective": "regression", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    deterministic = {"deterministic": True, "force_row_wise": True}
    return lightgbm.train(options | deterministic, lightgbm.Dataset(X, Y), rounds)


def xgboost_model(rounds: int = 3) -> xgboost.Booster:
    """Return a small booster, the same at each call."""
    return xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(X, Y), rounds)


def onnx_graph(weight: float = 1.0) -> onnx.ModelProto:
    """Return a graph that sums the columns, each multiplied by a weight."""
    weights = numpy_helper.from_array(np.full((3, 1), weight, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 1])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def predicted_by_session(session: Any) -> np.ndarray:
    """Return a graph's output for the test rows."""
    return session.run(None, {"x": X.astype(np.float32)})[0]


def saved(value: Any) -> tuple[str, bytes]:
    """Return the name of a value's codec, and its file."""
    codec = CODECS.of(value, "m")
    return codec.name, codec.save(value)


@pytest.mark.parametrize(
    ("name", "make", "predict"),
    [
        ("lightgbm", lightgbm_model, lambda model: model.predict(X)),
        ("xgboost", xgboost_model, lambda model: model.predict(xgboost.DMatrix(X))),
        (
            "skops",
            lambda: make_pipeline(
                SimpleImputer(), HistGradientBoostingRegressor(max_iter=3, random_state=0)
            ).fit(X, Y),
            lambda model: model.predict(X),
        ),
        (
            "skops",
            lambda: RandomForestClassifier(3, random_state=0).fit(X, Y > 0),
            lambda model: model.predict_proba(X),
        ),
    ],
)
def test_model_round_trips_with_a_stable_digest(
    name: str, make: Callable[[], Any], predict: Callable[[Any], np.ndarray]
) -> None:
    """A loaded model predicts bit for bit the same, and a second training has the same digest."""
    model = make()
    (codec_name, content), (_, again) = saved(model), saved(make())
    codec = CODECS.named(name)
    assert codec_name == name
    assert np.array_equal(predict(codec.load(content)), predict(model))
    assert content_digest(codec, content) == content_digest(codec, again)
    assert set(library_versions(codec)) >= ({"sklearn", "skops"} if name == "skops" else {name})


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (lightgbm_model(3), lightgbm_model(4)),
        (xgboost_model(3), xgboost_model(4)),
        (onnx_graph(1.0), onnx_graph(1.5)),
        (LinearRegression().fit(X, Y), LinearRegression().fit(X, 2 * Y)),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 1.0}),
    ],
)
def test_different_models_have_different_digests(one: Any, another: Any) -> None:
    """Models that differ in any value get different versions."""
    (name, content), (_, other) = saved(one), saved(another)
    codec = CODECS.named(name)
    assert content_digest(codec, content) != content_digest(codec, other)


def test_onnx_graph_loads_as_session() -> None:
    """An ONNX graph is saved, and loaded as an onnxruntime session that computes the same."""
    name, content = saved(onnx_graph())
    assert (name, saved(onnx_graph())[1]) == ("onnx", content)
    found = predicted_by_session(CODECS.named(name).load(content))
    assert np.allclose(found[:, 0], X.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("location", ["/etc/passwd", "weights.bin"])
def test_onnx_graph_with_external_files_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in an external file are not covered by the index's digest."""
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    graph = onnx_graph()
    weights = graph.graph.initializer[0]
    set_external_data(weights, location=location)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(Exception, match=r"Absolute path not allowed|model_path must not be empty"):
        CODECS.named("onnx").load(graph.SerializeToString())


def test_safetensors_load_as_numpy_arrays() -> None:
    """A safetensors file that PyTorch did not write loads without PyTorch."""
    content = safetensors.numpy.save({"weight": X, "bias": Y})
    found = CODECS.named("safetensors").load(content)
    assert set(found) == {"weight", "bias"}
    assert np.array_equal(found["weight"], X)


@pytest.mark.parametrize("value", [None, True, 1, 2**70, 0.1, "ä", [], {"b": [1, None], "a": {"x": -0.5}}])
def test_plain_values_round_trip_as_json(value: Any) -> None:
    """Plain values are saved as JSON, and come back equal and with the same types."""
    name, content = saved(value)
    assert name == "json"
    found = CODECS.named("json").load(content)
    assert (found, repr(found)) == (value, repr(value))


def test_digest_ignores_dict_order() -> None:
    """Two equal dicts have one digest, although their files differ."""
    codec = CODECS.named("json")
    one, another = codec.save({"a": 1, "b": 2}), codec.save({"b": 2, "a": 1})
    assert one != another
    assert content_digest(codec, one) == content_digest(codec, another)


@pytest.mark.parametrize(
    "value", [(1, 2), float("nan"), {1: "a"}, [np.float64(1.5)], {"a": X}, True & np.True_]
)
def test_values_that_json_would_change_use_skops(value: Any) -> None:
    """Tuples, NaN, numeric keys and NumPy values come back unchanged."""
    name, content = saved(value)
    assert name == "skops"
    assert repr(CODECS.named("skops").load(content)) == repr(value)


class Detector:
    """A class of a project."""


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (
            Detector(),
            r"test_codecs.Detector as m, and no codec takes it. Name a class of the project in `codecs`",
        ),
        ({"a b": [Detector()]}, "builtins.dict as m, and no codec takes it"),
        (lightgbm.LGBMRegressor(), r"LGBMRegressor as m, and no codec takes it. Return its `booster_`"),
        (xgboost.XGBRegressor(), r"Return its `get_booster\(\)`"),
    ],
)
def test_unsupported_value_error_suggests_a_remedy(value: Any, complaint: str) -> None:
    """An unsupported value is named by class, with advice on what to return or declare instead."""
    with pytest.raises(CodecError, match=complaint):
        CODECS.of(value, "m")


class OwnEstimator(LinearRegression):
    """A project's estimator, which skops could build but does not trust."""


def test_untrusted_estimator_is_refused_on_save_and_load() -> None:
    """A project's own estimator needs a codec, and is refused both when saved and when loaded."""
    estimator = OwnEstimator().fit(X, Y)
    with pytest.raises(CodecError, match=r"not trusted: .*OwnEstimator. Write a codec for the object"):
        CODECS.named("skops").save(estimator)
    with pytest.raises(CodecError, match="not trusted"):
        CODECS.named("skops").load(skops.io.dumps(estimator))


TREES = {
    "forest": lambda: RandomForestClassifier(2, random_state=0).fit(X, Y > 0),
    "voting": lambda: VotingRegressor([("tree", DecisionTreeRegressor(random_state=0))]).fit(X, Y),
    "histogram": lambda: HistGradientBoostingRegressor(
        max_iter=2, categorical_features=[2], random_state=0
    ).fit(np.column_stack([X[:, :2], np.arange(60) % 4]), Y),
    "in a dict": lambda: {"late": [make_pipeline(DecisionTreeRegressor(random_state=0)).fit(X, Y)]},
}


def lead_back(nodes: np.ndarray) -> None:
    """Make the first node point to itself."""
    nodes["left_child" if "left_child" in (nodes.dtype.names or ()) else "left"][0] = 0


def lead_out(nodes: np.ndarray) -> None:
    """Make the first node point beyond the last one."""
    nodes["right_child" if "right_child" in (nodes.dtype.names or ()) else "right"][0] = len(nodes)


def split_by_no_column(nodes: np.ndarray) -> None:
    """Make the first node split by a column that does not exist."""
    nodes["feature" if "feature" in (nodes.dtype.names or ()) else "feature_idx"][0] = 3


@pytest.mark.parametrize("forge", [lead_back, lead_out, split_by_no_column])
@pytest.mark.parametrize("name", sorted(TREES))
def test_tree_with_invalid_references_is_refused(name: str, forge: Callable[[np.ndarray], None]) -> None:
    """scikit-learn does not check node references, and would read foreign memory or loop forever."""
    content = saved(TREES[name]())[1]
    CODECS.named("skops").load(content)
    forged, nodes_found = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(forged, "w") as written:
        for member in packed.namelist():
            data = packed.read(member)
            if member.endswith(".npy"):
                array = np.load(io.BytesIO(data))
                if {"feature", "feature_idx"} & set(array.dtype.names or ()):
                    forge(array)
                    nodes_found += 1
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    data = buffer.getvalue()
            written.writestr(member, data)
    assert nodes_found
    with pytest.raises(ValueError, match="a decision tree with invalid references between its nodes"):
        CODECS.named("skops").load(forged.getvalue())


class Disguised:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def files() -> dict[str, bytes]:
    """Return a valid file for each codec."""
    return {
        "lightgbm": saved(lightgbm_model())[1],
        "xgboost": saved(xgboost_model())[1],
        "onnx": saved(onnx_graph())[1],
        "skops": saved(LinearRegression().fit(X, Y))[1],
        "safetensors": safetensors.numpy.save({"weight": X}),
        "json": b'{"a": 1}',
    }


@pytest.mark.parametrize("name", sorted(files()))
def test_pickle_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    """No codec runs a pickle, whichever codec the index names."""
    codec = CODECS.named(name)
    codec.load(files()[name])
    for protocol in (0, 4):
        with pytest.raises(Exception, match=r"."):
            codec.load(pickle.dumps(Disguised(tmp_path / "ran"), protocol=protocol))
    array = io.BytesIO()
    np.save(array, np.array([Disguised(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(Exception, match=r"."):
        codec.load(array.getvalue())
    assert not (tmp_path / "ran").exists()


def test_pickled_array_in_skops_file_is_refused(tmp_path: Path) -> None:
    """NumPy files in a skops file are read without pickled objects."""
    content = saved({"weights": X})[1]
    array = io.BytesIO()
    np.save(array, np.array([Disguised(tmp_path / "ran")], dtype=object), allow_pickle=True)
    forged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(forged, "w") as written:
        for member in packed.namelist():
            is_array = member.endswith(".npy")
            written.writestr(member, array.getvalue() if is_array else packed.read(member))
    with pytest.raises(ValueError, match="allow_pickle"):
        CODECS.named("skops").load(forged.getvalue())
    assert not (tmp_path / "ran").exists()


def test_oversized_skops_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A skops file with too large content is refused before unpacking, on loading and on digesting."""
    monkeypatch.setattr(skops_objects, "_LARGEST_CONTENT", 10_000)
    codec = CODECS.named("skops")
    bomb = saved({"weights": np.zeros(100_000)})[1]
    for work in (codec.load, lambda content: content_digest(codec, content)):
        with pytest.raises(ValueError, match=r"it unpacks to \d+ bytes"):
            work(bomb)


def test_codecs_import_no_unused_library() -> None:
    """Saving a plain value imports neither scikit-learn nor any boosting library."""
    program = (
        "import sys; from sagemaker_scripts.codecs.known_codecs import Codecs; codecs = Codecs()\n"
        "codecs.of([1.5], 'm').save([1.5])\n"
        "print(sorted({'sklearn', 'skops', 'lightgbm', 'xgboost', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


OWN = """
class Detector:
    name = "acme_detector"
    def takes(self, value):
        return type(value) is complex
    def save(self, value):
        return str(value).encode()
    def load(self, content):
        return complex(content.decode())

class Unnamed(Detector):
    name = "Acme Detector"

class Half:
    name = "half"

class Unsure(Detector):
    name = "unsure"
    def takes(self, value):
        return value.is_mine
"""


def test_project_codec_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's codec takes a value that the platform refuses, and faulty codecs are named."""
    (tmp_path / "acme_codecs.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    codecs = Codecs(["acme_codecs:Detector"])
    codec = codecs.of(1 + 2j, "m")
    assert codecs.named("acme_detector").load(codec.save(1 + 2j)) == 1 + 2j
    assert library_versions(codec) == {}
    for path, complaint in (
        ("acme_codecs:Half", "is not a codec: it needs takes, save, load"),
        ("acme_codecs:Unnamed", "a name of lower-case letters"),
        ("acme_codecs:Missing", "cannot be created: AttributeError"),
        ("acme_nothing:Half", "cannot be created: ModuleNotFoundError"),
    ):
        with pytest.raises(CodecError, match=complaint):
            Codecs([path])
    with pytest.raises(CodecError, match=r"takes\(\) of codec unsure failed on m, which train returned"):
        Codecs(["acme_codecs:Unsure"]).of(1.5, "m")


def test_declared_codecs_match_known_codecs() -> None:
    """A declaration accepts exactly the codecs that jobs can read."""
    assert all(CODECS.named(name).name == name for name in DECLARED_CODECS)
    assert len(CODECS.names) == len(DECLARED_CODECS)


def test_unknown_codec_is_refused_by_name() -> None:
    """The error lists the known codecs and says how a project names its own."""
    with pytest.raises(
        CodecError,
        match=r"Codec joblib is unknown; the known codecs are json, skops, xgboost.*`codecs` of defs.yaml",
    ):
        CODECS.named("joblib")
