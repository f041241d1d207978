"""Tests of each codec with its real library: what comes back, what is refused, and that no pickle is read."""

# The libraries describe few of their types.
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
    """Return a graph that adds the columns, each with a weight."""
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
    """Return what a graph says of the rows."""
    return session.run(None, {"x": X.astype(np.float32)})[0]


def saved(value: Any) -> tuple[str, bytes]:
    """Return the name of an object's codec, and its file."""
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
def test_a_model_comes_back_and_equal_ones_have_one_digest(
    name: str, make: Callable[[], Any], predict: Callable[[Any], np.ndarray]
) -> None:
    """It predicts bit for bit the same, and a second training on the same rows is the same model."""
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
def test_another_model_has_another_digest(one: Any, another: Any) -> None:
    """The version of a model says which one it is."""
    (name, content), (_, other) = saved(one), saved(another)
    codec = CODECS.named(name)
    assert content_digest(codec, content) != content_digest(codec, other)


def test_a_graph_becomes_a_session() -> None:
    """What `train` returns needs onnx; what `predict` receives needs onnxruntime alone."""
    name, content = saved(onnx_graph())
    assert (name, saved(onnx_graph())[1]) == ("onnx", content)
    found = predicted_by_session(CODECS.named(name).load(content))
    assert np.allclose(found[:, 0], X.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("location", ["/etc/passwd", "weights.bin"])
def test_a_graph_that_names_other_files_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in a file of the machine have no digest in the index."""
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    graph = onnx_graph()
    weights = graph.graph.initializer[0]
    set_external_data(weights, location=location)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(Exception, match=r"Absolute path not allowed|model_path must not be empty"):
        CODECS.named("onnx").load(graph.SerializeToString())


def test_tensors_of_others_come_back_as_arrays() -> None:
    """A file that PyTorch did not write needs no PyTorch."""
    content = safetensors.numpy.save({"weight": X, "bias": Y})
    found = CODECS.named("safetensors").load(content)
    assert set(found) == {"weight", "bias"}
    assert np.array_equal(found["weight"], X)


@pytest.mark.parametrize("value", [None, True, 1, 2**70, 0.1, "ä", [], {"b": [1, None], "a": {"x": -0.5}}])
def test_plain_values_are_json(value: Any) -> None:
    """They can be read by a person, and come back equal and of the same types."""
    name, content = saved(value)
    assert name == "json"
    found = CODECS.named("json").load(content)
    assert (found, repr(found)) == (value, repr(value))


def test_the_order_of_a_dict_is_no_other_model() -> None:
    """Two dicts that are equal have one digest."""
    codec = CODECS.named("json")
    one, another = codec.save({"a": 1, "b": 2}), codec.save({"b": 2, "a": 1})
    assert one != another
    assert content_digest(codec, one) == content_digest(codec, another)


@pytest.mark.parametrize(
    "value", [(1, 2), float("nan"), {1: "a"}, [np.float64(1.5)], {"a": X}, True & np.True_]
)
def test_what_json_would_change_goes_to_skops(value: Any) -> None:
    """A tuple stays a tuple, and a key that is a number one."""
    name, content = saved(value)
    assert name == "skops"
    assert repr(CODECS.named("skops").load(content)) == repr(value)


class Detector:
    """An object of a project's own."""


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
def test_what_no_codec_takes_is_named_with_what_to_return(value: Any, complaint: str) -> None:
    """A wrapper would need its own library's classes built by another library."""
    with pytest.raises(CodecError, match=complaint):
        CODECS.of(value, "m")


class OwnEstimator(LinearRegression):
    """An estimator of a project's own, which skops could build and does not trust."""


def test_an_estimator_of_ones_own_is_refused_before_it_is_written() -> None:
    """And when it is read; the remedy is a codec, and no change of the platform."""
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
    """Let the first node lead to itself."""
    nodes["left_child" if "left_child" in (nodes.dtype.names or ()) else "left"][0] = 0


def lead_out(nodes: np.ndarray) -> None:
    """Let the first node lead beyond the last."""
    nodes["right_child" if "right_child" in (nodes.dtype.names or ()) else "right"][0] = len(nodes)


def split_by_no_column(nodes: np.ndarray) -> None:
    """Let the first node ask for a column that there is not."""
    nodes["feature" if "feature" in (nodes.dtype.names or ()) else "feature_idx"][0] = 3


@pytest.mark.parametrize("forge", [lead_back, lead_out, split_by_no_column])
@pytest.mark.parametrize("name", sorted(TREES))
def test_a_tree_whose_nodes_lead_out_of_it_is_refused(name: str, forge: Callable[[np.ndarray], None]) -> None:
    """scikit-learn follows them unseen, into memory that is not the tree's or in circles."""
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
    """Return a good file of each codec."""
    return {
        "lightgbm": saved(lightgbm_model())[1],
        "xgboost": saved(xgboost_model())[1],
        "onnx": saved(onnx_graph())[1],
        "skops": saved(LinearRegression().fit(X, Y))[1],
        "safetensors": safetensors.numpy.save({"weight": X}),
        "json": b'{"a": 1}',
    }


@pytest.mark.parametrize("name", sorted(files()))
def test_a_pickle_in_disguise_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    """No codec reads one, whatever its index calls it."""
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


def test_an_array_of_pickles_in_a_skops_file_is_not_read(tmp_path: Path) -> None:
    """NumPy's own format can hold objects, and is read without them."""
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


def test_a_skops_file_that_unpacks_to_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of it is unpacked, when it is read and when its digest is taken."""
    monkeypatch.setattr(skops_objects, "_LARGEST_CONTENT", 10_000)
    codec = CODECS.named("skops")
    bomb = saved({"weights": np.zeros(100_000)})[1]
    for work in (codec.load, lambda content: content_digest(codec, content)):
        with pytest.raises(ValueError, match=r"it unpacks to \d+ bytes"):
            work(bomb)


def test_no_library_is_imported_that_the_model_does_not_use() -> None:
    """A model of LightGBM waits neither for scikit-learn nor for XGBoost."""
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


def test_a_codec_of_the_projects_own_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what the platform's would refuse, and is found by its name."""
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


def test_a_declaration_knows_the_codecs_that_there_are() -> None:
    """A format that no job reads is refused before it is needed."""
    assert all(CODECS.named(name).name == name for name in DECLARED_CODECS)
    assert len(CODECS.names) == len(DECLARED_CODECS)


def test_an_unknown_codec_is_refused_by_name() -> None:
    """The error says which there are, and how a project names its own."""
    with pytest.raises(
        CodecError,
        match=r"Codec joblib is unknown; the known codecs are json, skops, xgboost.*`codecs` of defs.yaml",
    ):
        CODECS.named("joblib")
