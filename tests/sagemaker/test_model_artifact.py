"""Tests of trained models on S3: how they are saved and loaded, and which are refused."""

# LightGBM annotates its predictions as a union of many types.
# pyright: reportArgumentType=false

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from prediction_batches.object_store import InputMissingError, ObjectStore, ObjectTooLargeError
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import TrainedElsewhere
from prediction_contract.naming.s3_layout import candidates_prefix
from sagemaker_scripts.codecs.codec import Codec, CodecError
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.learning import model_archive
from sagemaker_scripts.learning.model_artifact import (
    INDEX_FILE,
    ModelArtifactError,
    TrainedModel,
    declared_model,
    found_model,
    load_model,
    save_model,
)
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CODECS = Codecs()
KEY = f"{candidates_prefix('m')}train-1/output/model.tar.gz"
X = np.arange(8.0).reshape(4, 2)


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def put_archive(store: ObjectStore, folder: Path) -> None:
    """Pack a folder as SageMaker does, and upload it to where a training job leaves it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    store.put(KEY, buffer.getvalue())


def loaded(store: ObjectStore) -> TrainedModel:
    """Return the model in the archive."""
    return load_model(store, "m", found_model(store, "m", KEY), CODECS)


def test_saved_model_is_loaded_unchanged(store: ObjectStore, tmp_path: Path) -> None:
    """Each object uses its own codec; version, archive and libraries are recorded."""
    estimator = LinearRegression().fit(X, np.arange(4.0))
    artifact = {"inputs": ["a", "b"], "minutes": estimator}
    saved = save_model(tmp_path, "m", artifact, {"rows": 4}, CODECS)
    assert set(saved.libraries) == {"sklearn", "skops"}
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert {each["name"]: each["codec"] for each in index["objects"]} == {
        "inputs": "json",
        "minutes": "skops",
    }
    put_archive(store, tmp_path)
    trained = loaded(store)
    assert (trained.version, trained.source.key) == (saved.version, KEY)
    assert trained.artifact["inputs"] == ["a", "b"]
    assert trained.artifact["minutes"].predict([[1.0, 2.0]]) == estimator.predict([[1.0, 2.0]])


@pytest.mark.parametrize("artifact", [1.5, ["a"], {"a b": 1}, {}, {"fc.weight": 0.5, "fc.bias": 0.1}])
def test_single_object_needs_no_dict(store: ObjectStore, tmp_path: Path, artifact: Any) -> None:
    """`predict` gets exactly what `train` returned, which may be a single object but not an empty dict."""
    if artifact == {}:
        with pytest.raises(ModelArtifactError, match="train returned 0 objects"):
            save_model(tmp_path, "m", artifact, {}, CODECS)
        return
    save_model(tmp_path, "m", artifact, {}, CODECS)
    put_archive(store, tmp_path)
    assert loaded(store).artifact == artifact


def test_lightgbm_model_lists_only_lightgbm(store: ObjectStore, tmp_path: Path) -> None:
    """Only LightGBM is among the libraries of a LightGBM model, which predicts the same after loading."""
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, np.arange(4.0)), 1)
    assert set(save_model(tmp_path, "m", booster, {}, CODECS).libraries) == {"lightgbm"}
    put_archive(store, tmp_path)
    found = loaded(store).artifact
    assert np.array_equal(found.predict(X), booster.predict(X))


class ForbiddenCodecs(Codecs):
    """Codecs that fail when used, because nothing may be parsed."""

    def named(self, name: str) -> Codec:
        """Fail."""
        raise AssertionError(name)


def test_archive_unlike_the_pin_is_refused_before_parsing(store: ObjectStore, tmp_path: Path) -> None:
    """An archive with another SHA-256 or digest than pinned is refused, even if it is a valid model."""
    save_model(tmp_path, "m", {"number": 1}, {}, CODECS)
    put_archive(store, tmp_path)
    pinned = replace(found_model(store, "m", KEY), version=7)
    assert load_model(store, "m", pinned, CODECS).artifact == {"number": 1}
    other_digest = replace(pinned, digest="0" * 16)
    with pytest.raises(ModelArtifactError, match=r"has digest .*, not 0000.*version other than 7"):
        load_model(store, "m", other_digest, ForbiddenCodecs())
    save_model(tmp_path, "m", {"number": 2}, {}, CODECS)
    put_archive(store, tmp_path)
    for content in (store.get(KEY), b"no archive at all"):
        store.put(KEY, content)
        with pytest.raises(ModelArtifactError, match=r"has SHA-256 .*, not .*version other than 7"):
            load_model(store, "m", pinned, ForbiddenCodecs())


def other_value(folder: Path, _index: dict[str, Any]) -> None:
    """Change an object's file."""
    (folder / "objects" / "number.json").write_text("2")


def other_digest(folder: Path, index: dict[str, Any]) -> None:
    """Change an object's file and its SHA-256 in the index, as a forger would."""
    (folder / "objects" / "number.json").write_text("2")
    index["objects"][0]["sha256"] = hashlib.sha256(b"2").hexdigest()


def named_once_more(_folder: Path, index: dict[str, Any]) -> None:
    """List an object twice."""
    index["objects"] *= 2


def path_of_another_folder(_folder: Path, index: dict[str, Any]) -> None:
    """Give an object a name that leaves its folder."""
    index["objects"][0]["name"] = "../model"


def other_size(_folder: Path, index: dict[str, Any]) -> None:
    """State a wrong size."""
    index["objects"][0]["bytes"] = 3


def no_file(folder: Path, _index: dict[str, Any]) -> None:
    """Delete an object's file."""
    (folder / "objects" / "number.json").unlink()


def other_version(_folder: Path, index: dict[str, Any]) -> None:
    """State a wrong version."""
    index["model_version"] = "0" * 16


def unknown_codec(folder: Path, index: dict[str, Any]) -> None:
    """Name an unknown codec, as if the project had deleted it."""
    (folder / "objects" / "number.json").rename(folder / "objects" / "number.joblib")
    index["objects"][0]["codec"] = "joblib"
    stored = model_archive.TrainedObject(**index["objects"][0])
    index["model_version"] = model_archive.version_of([stored])


def earlier_format(_folder: Path, index: dict[str, Any]) -> None:
    """Leave out the format, as earlier versions of the platform did."""
    del index["format"]


def other_model(_folder: Path, index: dict[str, Any]) -> None:
    """Name another model."""
    index["model"] = "other"


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (other_value, "objects/number.json does not have the size and SHA-256 in the index"),
        (other_digest, "The codec json cannot read .* its content does not match the digest in the index"),
        (named_once_more, "do not have valid and unique names"),
        (path_of_another_folder, "the name or codec of an object is invalid"),
        (other_size, "does not have the size and SHA-256 in the index"),
        (no_file, "objects/number.json is missing"),
        (other_version, "its version is [0-9a-f]{16}, but the index says 0000"),
        (unknown_codec, r"Codec joblib is unknown.*Name the class that reads it in `codecs`"),
        (earlier_format, r"was written by another version of the platform. Train again"),
        (other_model, "holds a model of other"),
    ],
)
def test_altered_or_foreign_archive_is_refused(
    store: ObjectStore,
    tmp_path: Path,
    alter: Callable[[Path, dict[str, Any]], None],
    complaint: str,
) -> None:
    """Each alteration of index or objects is refused with an error that says what does not match."""
    save_model(tmp_path, "m", {"number": 1}, {}, CODECS)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    alter(tmp_path, index)
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    put_archive(store, tmp_path)
    with pytest.raises((ModelArtifactError, CodecError), match=complaint):
        loaded(store)


def packed(*members: tuple[str, bytes]) -> bytes:
    """Return an archive with the given members, whose names may repeat."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def huge_header(size: int) -> bytes:
    """Return an archive whose first header announces a name of that many bytes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(size))


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"{}",
        gzip.compress(b""),
        gzip.compress(b"x" * 600),
        packed(("other.json", b"{}")),
        packed(("model.json", b"[" * 100_000)),
        packed(("model.json", b"[]")),
        packed(("model.json", b"{}"), ("model.json", b"{}")),
        packed(("objects/a.json", bytes(40_000)), ("model.json", b"{}")),
        packed(("other", bytes(40_000)), ("model.json", b"{}")),
        packed(*[(f"objects/{number}.json", b"") for number in range(20)]),
        packed(("model.json", b"{}"))[:-20],
        huge_header(40_000),
    ],
    # Generated ids would contain the time of writing, and differ between test workers.
    ids=[
        "nothing",
        "json",
        "empty",
        "no_tar",
        "no_index",
        "index_of_deep_lists",
        "index_is_a_list",
        "two_indexes",
        "large_object",
        "large_stranger",
        "many_objects",
        "cut_off",
        "long_name",
    ],
)
def test_damaged_or_oversized_archive_is_refused(
    store: ObjectStore, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged archives are refused, as are those with too many bytes or objects when unpacked."""
    monkeypatch.setattr(model_archive, "LARGEST_MODEL", 30_000)
    monkeypatch.setattr(model_archive, "MOST_OBJECTS", 10)
    store.put(KEY, archive)
    with pytest.raises(ModelArtifactError, match="not an archive of a trained model, or is damaged"):
        loaded(store)


def test_archive_with_too_many_members_is_refused(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignored members take memory as well, so their number is limited."""
    monkeypatch.setattr(model_archive, "_MOST_MEMBERS", 10)
    others = [(f"other-{number}", b"") for number in range(20)]
    store.put(KEY, packed(*others, ("model.json", b"{}")))
    with pytest.raises(ModelArtifactError, match="it has more than 10 members"):
        loaded(store)


FORGETFUL = """
class Forgetful:
    name = "forgetful"
    def takes(self, value):
        return type(value) is complex
    def save(self, value):
        return b"x"
    def load(self, content):
        raise EOFError("nothing there")
"""


def test_unreadable_object_fails_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training fails if a codec cannot load what it saved, and writes no index."""
    (tmp_path / "acme_forgetful.py").write_text(FORGETFUL)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(
        ModelArtifactError, match=r"cannot read number, which train .*EOFError: nothing there"
    ):
        save_model(folder, "m", {"number": 1j}, {}, Codecs(["acme_forgetful:Forgetful"]))
    assert not (folder / INDEX_FILE).exists()


def test_file_that_cannot_be_parsed_is_named(store: ObjectStore) -> None:
    """The error names the file and its codec."""
    elsewhere = TrainedElsewhere(
        key="models/churn.ubj", sha256=hashlib.sha256(b"x").hexdigest(), codec="json"
    )
    store.put("models/churn.ubj", b"x")
    with pytest.raises(ModelArtifactError, match=r"codec json cannot read s3://mlpipe-data/models/churn.ubj"):
        load_model(store, "m", declared_model(elsewhere), CODECS)


def trained_elsewhere(content: bytes, codec: str = "lightgbm") -> TrainedElsewhere:
    """Return the declaration of a file with the given content."""
    return TrainedElsewhere(key="models/m.txt", sha256=hashlib.sha256(content).hexdigest(), codec=codec)


def test_model_trained_elsewhere_is_loaded_from_one_file(store: ObjectStore) -> None:
    """The version of a declared file is the beginning of its SHA-256."""
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, np.arange(4.0)), 1)
    content = booster.model_to_string().encode()
    store.put("models/m.txt", content)
    trained = load_model(store, "m", declared_model(trained_elsewhere(content)), CODECS)
    digest = hashlib.sha256(content).hexdigest()
    assert (trained.version, trained.source.key, trained.source.sha256) == (
        digest[:16],
        "models/m.txt",
        digest,
    )
    assert np.array_equal(trained.artifact.predict(X), booster.predict(X))


def test_file_unlike_its_declaration_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, too large, has another digest or an unknown codec is refused."""
    declared = trained_elsewhere(b"tree\n")
    for put, codec, complaint, error in (
        (None, "lightgbm", "does not exist", InputMissingError),
        (b"tree\nother", "lightgbm", r"SHA-256 .*, not .*correct `model.sha256`", ModelArtifactError),
        (b"tree\n", "catboost", "Codec catboost is unknown", CodecError),
    ):
        if put is not None:
            store.put("models/m.txt", put)
        elsewhere = TrainedElsewhere(key=declared.key, sha256=declared.sha256, codec=codec)
        with pytest.raises(error, match=complaint):
            load_model(store, "m", declared_model(elsewhere), CODECS)
    monkeypatch.setattr("sagemaker_scripts.learning.model_artifact.LARGEST_MODEL", 3)
    with pytest.raises(ObjectTooLargeError, match="5 bytes, but at most 3 are allowed"):
        load_model(store, "m", declared_model(declared), CODECS)
    assert issubclass(ObjectTooLargeError, ContractError)
