"""The trained model as `model.tar.gz`: scikit-learn objects without pickle, and what they were trained on."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skops.io
import skops.io.exceptions

from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject
from sagemaker_scripts.model_functions import Artifact
from sagemaker_scripts.object_store import ObjectStore, input_object

MODEL_FILE = "model.skops"
INDEX_FILE = "model.json"
METRICS_NAME = "metrics.json"
EVALUATION_NAME = "evaluation.json"
# Types that skops may build beside NumPy's, SciPy's and scikit-learn's own, which it knows to be harmless.
# A model of another library names its types here, after somebody has read what they do when they are built.
TRUSTED_TYPES: list[str] = []
_LARGEST_MEMBER = 1024 * 1024 * 1024
_VERSION_DIGITS = 16
_ARTIFACT_KEY = re.compile("models/[^/]+/([^/]+)/output/model[.]tar[.]gz")


class ModelArtifactError(ContractError):
    """A trained model is missing, damaged, or holds what must not be built."""


@dataclass(frozen=True)
class TrainedModel:
    """A model as scoring uses it.

    Attributes:
        artifact: What the model's `train` returned.
        version: The digest of the trained objects; equal ones have the same.
        source: The archive.
    """

    artifact: Artifact
    version: str
    source: InputObject


def training_prefix(model: str, job_name: str) -> str:
    """Return the prefix below which a training job leaves its archive and its metrics."""
    return f"models/{model}/{job_name}/"


def save_model(folder: Path, model: str, artifact: Artifact, facts: Mapping[str, Any]) -> str:
    """Write the files that SageMaker packs into `model.tar.gz`, and return the model's version.

    The index is written last: SageMaker also packs what a stopped job leaves behind.

    Args:
        folder: `/opt/ml/model`.
        model: The model's name.
        artifact: What the model's `train` returned.
        facts: What else the index shall hold.
    """
    content = skops.io.dumps(artifact)
    version = _version(content)
    (folder / MODEL_FILE).write_bytes(content)
    index = {**facts, "model": str(model), "model_version": version}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1))
    return version


def load_model(store: ObjectStore, model: str, key: str | None = None) -> TrainedModel:
    """Return the model of an archive, or of the newest training job that has ended.

    Raises:
        ModelArtifactError: There is none, it is another model's or damaged, or holds types not trusted.
    """
    archive_key = key or newest_archive(store, model)
    archive = store.get(archive_key)
    try:
        members = _members(archive)
        index = json.loads(members[INDEX_FILE])
        content = members[MODEL_FILE]
        version = _version(content)
        if (index["model"], index["model_version"]) != (model, version):
            raise ModelArtifactError(
                f"{archive_key} says {index['model']} {index['model_version']}, and its content is {version}",
                remedy="Pass the archive of one of this model's own training jobs",
                model=model,
            )
        artifact = skops.io.loads(content, trusted=TRUSTED_TYPES)
    except skops.io.exceptions.UntrustedTypesFoundException as error:
        raise ModelArtifactError(
            f"{archive_key} holds types that are not trusted: {error}",
            remedy="Read what they do, then add them to TRUSTED_TYPES",
            model=model,
        ) from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        raise ModelArtifactError(
            f"{archive_key} is no archive of a trained model, or is damaged",
            remedy="Train again",
            model=model,
        ) from error
    return TrainedModel(artifact, version, input_object(archive_key, archive))


def newest_archive(store: ObjectStore, model: str) -> str:
    """Return the key of the newest archive whose training job has ended.

    Raises:
        ModelArtifactError: There is none.
    """
    listed = store.listing(f"models/{model}/")
    keys = {item.key for item in listed}
    whole = [
        item
        for item in listed
        if (found := _ARTIFACT_KEY.fullmatch(item.key))
        and f"{training_prefix(model, found[1])}{METRICS_NAME}" in keys
    ]
    if not whole:
        raise ModelArtifactError(
            f"s3://{store.bucket}/models/{model}/ holds no trained model",
            remedy="Run the training job",
            model=model,
        )
    return max(whole, key=lambda item: (item.modified, item.key)).key


def _version(content: bytes) -> str:
    """Return the digest of what a skops file holds: the same for equal objects, whenever they were saved.

    Its own bytes differ each time, because skops keeps the objects' addresses and the time of writing.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        digests = {name: hashlib.sha256(packed.read(name)).hexdigest() for name in packed.namelist()}
        schema = json.loads(
            packed.read("schema.json"),
            object_hook=lambda node: {
                name: digests.get(value, value) if name == "file" and isinstance(value, str) else value
                for name, value in node.items()
                if name != "__id__" or not isinstance(value, int)
            },
        )
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:_VERSION_DIGITS]


def _members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        found = {}
        for member in packed:
            name = member.name.removeprefix("./")
            if not member.isfile() or name not in {MODEL_FILE, INDEX_FILE}:
                continue
            file = packed.extractfile(member)
            if file is None or member.size > _LARGEST_MEMBER:
                raise ValueError(f"{name} has {member.size} bytes")
            found[name] = file.read()
        return found
