"""The trained model as `model.tar.gz`: one file per trained object, and their index `model.json`."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import TrainedElsewhere
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.manifests.manifest import InputObject
from sagemaker_scripts.codecs.codec import Codec, content_digest, library_versions
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.learning.model_archive import (
    INDEX_FILE,
    LARGEST_MODEL,
    MOST_OBJECTS,
    OBJECT_NAME,
    OBJECTS_FOLDER,
    ONLY_OBJECT,
    VERSION_DIGITS,
    TrainedObject,
    archive_members,
    stored_objects,
    version_of,
)

_FORMAT = 2


class ModelArtifactError(ContractError):
    """A trained model is missing, damaged, or holds objects that must not be loaded."""


@dataclass(frozen=True)
class TrainedModel:
    """A loaded model for scoring.

    Attributes:
        artifact: The value that the model's `train` returned, or the object in a file that was trained
            elsewhere.
        version: The digest of the trained objects; equal objects have the same digest.
        source: The object on S3: an archive, or a file trained elsewhere.
    """

    artifact: Any
    version: str
    source: InputObject


class _OpenedArchive(NamedTuple):
    """An archive whose index was read, but none of its objects."""

    version: str
    members: Mapping[str, bytes]
    stored: Sequence[TrainedObject]
    is_named: bool
    rows: int | None
    libraries: dict[str, str]


class ArchivedModel(NamedTuple):
    """A description of a model's archive, without its objects.

    Attributes:
        pinned: The reference to the archive.
        rows: The number of rows that the model was trained on; None if the index does not contain it.
        libraries: The versions of its objects' libraries.
    """

    pinned: PinnedModel
    rows: int | None
    libraries: dict[str, str]


class SavedModel(NamedTuple):
    """A description of a saved model.

    Attributes:
        version: The model's version.
        libraries: The versions of its objects' libraries.
    """

    version: str
    libraries: dict[str, str]


def save_model(
    folder: Path, model: str, artifact: Any, facts: Mapping[str, Any], codecs: Codecs
) -> SavedModel:
    """Write the files that SageMaker packs into `model.tar.gz`, and return a description.

    The index is written last, because SageMaker also packs the files of a stopped job.

    Args:
        folder: `/opt/ml/model`.
        model: The model's name.
        artifact: The value that the model's `train` returned: a dict of objects by name, or one object.
        facts: Additional members of the index.
        codecs: The model's codecs.

    Raises:
        ModelArtifactError: There are too many objects, they are too large to be loaded again, or a codec
            cannot write or read one.
        CodecError: No codec accepts an object.
    """
    is_named = _is_named(artifact)
    objects = artifact if is_named else {ONLY_OBJECT: artifact}
    if not 0 < len(objects) <= MOST_OBJECTS:
        raise ModelArtifactError(
            f"train returned {len(objects)} objects, not 1 to {MOST_OBJECTS}",
            remedy="Return at least one object, and combine related objects in a list",
            model=model,
        )
    (folder / OBJECTS_FOLDER).mkdir(exist_ok=True)
    stored: list[TrainedObject] = []
    libraries: dict[str, str] = {}
    for name, value in objects.items():
        codec = codecs.of(value, name)
        content, digest = _written(codec, value, name, model)
        sha256 = hashlib.sha256(content).hexdigest()
        stored.append(TrainedObject(name, codec.name, sha256, digest, len(content)))
        # Read the file back now, because scoring would detect an unreadable file too late.
        _read(codec, content, f"{name}, which train returned", model, stored[-1].digest)
        libraries |= library_versions(codec)
        (folder / stored[-1].file).write_bytes(content)
    size = sum(each.bytes for each in stored)
    if size > LARGEST_MODEL:
        raise ModelArtifactError(
            f"The trained objects have {size} bytes; at most {LARGEST_MODEL} are allowed",
            remedy="Train a smaller model",
            model=model,
        )
    version = version_of(stored)
    index = {
        **facts,
        "libraries": libraries,
        "model": str(model),
        "model_version": version,
        "format": _FORMAT,
        "named": is_named,
        "objects": [each._asdict() for each in stored],
    }
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1))
    return SavedModel(version, libraries)


def found_model(store: ObjectStore, model: str, key: str) -> PinnedModel:
    """Return a reference to the archive that is now at a key; errors as in `archived_model`."""
    return archived_model(store, model, key).pinned


def archived_model(store: ObjectStore, model: str, key: str) -> ArchivedModel:
    """Return a description of the archive that is now at a key; its objects are not read.

    Raises:
        InputMissingError: The archive does not exist.
        ModelArtifactError: It belongs to another model or is damaged.
    """
    archive = store.get(key, largest=LARGEST_MODEL)
    opened = _opened(archive, key, model)
    pinned = PinnedModel(digest=opened.version, key=key, sha256=hashlib.sha256(archive).hexdigest())
    return ArchivedModel(pinned, opened.rows, opened.libraries)


def declared_model(elsewhere: TrainedElsewhere) -> PinnedModel:
    """Return a reference to a declared model file; its digest is the beginning of the file's SHA-256."""
    return PinnedModel(
        digest=elsewhere.sha256[:VERSION_DIGITS],
        key=elsewhere.key,
        sha256=elsewhere.sha256,
        bucket=elsewhere.bucket,
        codec=elsewhere.codec,
    )


def load_model(store: ObjectStore, model: str, pinned: PinnedModel, codecs: Codecs) -> TrainedModel:
    """Load a pinned model: an archive of a training job, or a file that was trained elsewhere.

    Args:
        store: The data bucket.
        model: The model's name.
        pinned: The reference to the model.
        codecs: The model's codecs.

    Raises:
        InputMissingError: The object on S3 does not exist.
        ModelArtifactError: The object has another SHA-256, which is checked before parsing. Or it belongs to
            another model, is damaged, or contains a trained object that cannot be read.
        CodecError: A trained object's codec is missing.
    """
    codec = None if pinned.codec is None else codecs.named(pinned.codec)
    bucket = store if pinned.bucket is None else store.with_bucket(pinned.bucket)
    content, address = bucket.get(pinned.key, largest=LARGEST_MODEL), bucket.address(pinned.key)
    found = hashlib.sha256(content).hexdigest()
    if found != pinned.sha256:
        raise _altered(model, address, pinned, f"SHA-256 {found}, not {pinned.sha256}")
    source = InputObject(pinned.key, pinned.sha256, pinned.bucket)
    if codec is not None:
        return TrainedModel(_read(codec, content, address, model), pinned.digest, source)
    opened = _opened(content, pinned.key, model)
    if opened.version != pinned.digest:
        raise _altered(model, address, pinned, f"digest {opened.version}, not {pinned.digest}")
    objects = {
        each.name: _object(each, opened.members[each.file], pinned.key, model, codecs)
        for each in opened.stored
    }
    return TrainedModel(objects if opened.is_named else objects[ONLY_OBJECT], pinned.digest, source)


def _altered(model: str, address: str, pinned: PinnedModel, what: str) -> ModelArtifactError:
    return ModelArtifactError(
        f"The trained model {address} has {what}",
        remedy="Restore that file, or correct `model.sha256` in defs.yaml and score a new batch"
        if pinned.version is None
        else f"Restore that file, or promote a version other than {pinned.version} and score a new batch",
        model=model,
    )


def _opened(archive: bytes, key: str, model: str) -> _OpenedArchive:
    try:
        members = archive_members(archive)
        index = json.loads(members[INDEX_FILE])
        if index["model"] != model:
            raise ModelArtifactError(
                f"{key} holds a model of {index['model']}",
                remedy="Pass the archive of one of this model's own training jobs",
                model=model,
            )
        if index.get("format") != _FORMAT:
            raise ModelArtifactError(
                f"{key} was written by another version of the platform",
                remedy="Train again",
                model=model,
            )
        stored = stored_objects(index, members)
        is_named = bool(index["named"])
        rows = None if index.get("rows") is None else int(index["rows"])
        libraries = {str(name): str(version) for name, version in index.get("libraries", {}).items()}
    except (
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ModelArtifactError(
            f"{key} is not an archive of a trained model, or is damaged: {str(error)[:200]}",
            remedy="Train again",
            model=model,
        ) from error
    return _OpenedArchive(str(index["model_version"]), members, stored, is_named, rows, libraries)


def _is_named(artifact: Any) -> bool:
    """Return whether `train` returned objects by name; a dict with other keys is a single object."""
    return type(artifact) is dict and all(
        isinstance(name, str) and OBJECT_NAME.fullmatch(name) for name in artifact
    )


def _written(codec: Codec, value: Any, name: str, model: str) -> tuple[bytes, str]:
    """Return an object's file, and the digest of its content."""
    try:
        content = codec.save(value)
        if not isinstance(content, bytes):
            raise TypeError(f"save returned {type(content).__name__}, not bytes")  # noqa: TRY301  # reported alike
        return content, content_digest(codec, content)
    except Exception as error:
        why = error.what if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
        raise ModelArtifactError(
            f"The codec {codec.name} cannot write {name}, which train returned: {str(why)[:400]}",
            remedy=error.remedy
            if isinstance(error, ContractError)
            else "Return an object that it can write, or write a codec in the project",
            model=model,
        ) from error


def _object(stored: TrainedObject, content: bytes, archive_key: str, model: str, codecs: Codecs) -> Any:
    codec, file = codecs.named(stored.codec), f"{stored.file} of {archive_key}"
    return _read(codec, content, file, model, stored.digest)


def _read(codec: Codec, content: bytes, file: str, model: str, digest: str | None = None) -> Any:
    """Load an object from a file whose SHA-256 was checked, after checking the content's digest if given."""
    try:
        if digest is not None and content_digest(codec, content) != digest:
            raise ValueError("its content does not match the digest in the index")  # noqa: TRY301  # reported alike
        return codec.load(content)
    except ModuleNotFoundError as error:
        raise ModelArtifactError(
            f"{file} needs the package {error.name}, which is not installed",
            remedy="Add it to the .in file of the model's requirements, and run `mlpipe lock`",
            model=model,
        ) from error
    except Exception as error:
        why = error.what if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
        raise ModelArtifactError(
            f"The codec {codec.name} cannot read {file}: {str(why)[:400]}",
            remedy=error.remedy
            if isinstance(error, ContractError)
            else "Name the codec that wrote the file, or write the file again",
            model=model,
        ) from error
