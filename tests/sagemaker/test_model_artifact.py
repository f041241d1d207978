"""Tests of trained models on S3: which is taken, and which is refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from sagemaker_scripts.learning.model_artifact import (
    MODEL_FILE,
    ModelArtifactError,
    load_model,
    newest_archive,
    save_model,
    training_prefix,
)
from sagemaker_scripts.object_store import ObjectStore
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def put_archive(store: ObjectStore, folder: Path, job_name: str, *, whole: bool = True) -> str:
    """Pack a folder as SageMaker does, put it where a training job leaves it, and return its key."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    key = f"{training_prefix('m', job_name)}output/model.tar.gz"
    store.put(key, buffer.getvalue())
    if whole:
        store.put(f"{training_prefix('m', job_name)}metrics.json", b"{}")
    return key


def test_a_model_comes_back_as_it_was_saved(store: ObjectStore, tmp_path: Path) -> None:
    """Its estimators predict the same, and its version and archive are named."""
    estimator = LinearRegression().fit(np.arange(8.0).reshape(4, 2), np.arange(4.0))
    version = save_model(tmp_path, "m", {"inputs": ["a", "b"], "minutes": estimator}, {"rows": 4})
    key = put_archive(store, tmp_path, "train-1")
    trained = load_model(store, "m")
    assert (trained.version, trained.source.key) == (version, key)
    assert trained.artifact["inputs"] == ["a", "b"]
    assert trained.artifact["minutes"].predict([[1.0, 2.0]]) == estimator.predict([[1.0, 2.0]])


def test_the_newest_model_is_that_of_a_job_which_came_to_its_end(store: ObjectStore, tmp_path: Path) -> None:
    """SageMaker packs what a stopped job leaves as well; its archive is not taken unless it is named."""
    save_model(tmp_path, "m", {"number": 1}, {})
    put_archive(store, tmp_path, "train-9")
    newer = put_archive(store, tmp_path, "train-1")
    stopped = put_archive(store, tmp_path, "train-5", whole=False)
    assert newest_archive(store, "m") == newer
    assert load_model(store, "m", stopped).artifact == {"number": 1}


def test_a_missing_model_is_named(store: ObjectStore) -> None:
    """The error says what to run."""
    with pytest.raises(ModelArtifactError, match=r"models/m/ holds no trained model. Run the training job"):
        load_model(store, "m")


def test_types_that_nobody_trusts_are_not_built(store: ObjectStore, tmp_path: Path) -> None:
    """A file that would build other objects than the known ones is refused by their names."""
    save_model(tmp_path, "m", {"counted": Counter("ab")}, {})
    key = put_archive(store, tmp_path, "train-1")
    assert skops.io.get_untrusted_types(file=tmp_path / MODEL_FILE) == ["collections.Counter"]
    with pytest.raises(ModelArtifactError, match=r"not trusted.*Counter"):
        load_model(store, "m", key)


def test_an_altered_or_foreign_archive_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    """Another model's archive, other content than the index says, no index, and no archive at all."""
    save_model(tmp_path, "other", {"number": 1}, {})
    foreign = put_archive(store, tmp_path, "train-1")
    with pytest.raises(ModelArtifactError, match="says other"):
        load_model(store, "m", foreign)
    save_model(tmp_path, "m", {"number": 1}, {})
    (tmp_path / MODEL_FILE).write_bytes(skops.io.dumps({"number": 2}))
    altered = put_archive(store, tmp_path, "train-2")
    with pytest.raises(ModelArtifactError, match="and its content is"):
        load_model(store, "m", altered)
    (tmp_path / "model.json").unlink()
    with pytest.raises(ModelArtifactError, match="no archive of a trained model"):
        load_model(store, "m", put_archive(store, tmp_path, "train-3"))
    store.put(altered, json.dumps({}).encode())
    with pytest.raises(ModelArtifactError, match="no archive of a trained model"):
        load_model(store, "m", altered)
