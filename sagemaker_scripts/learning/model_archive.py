"""The archive of a trained model: its files, their limits and their index."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sagemaker_scripts.codecs.codec import NAME_FORM

INDEX_FILE = "model.json"
OBJECTS_FOLDER = "objects"
# The name of the object if the model's `train` returns a single object instead of a dict.
ONLY_OBJECT = "model"
OBJECT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")
MOST_OBJECTS = 1000
# The maximum members of an archive. SageMaker also packs other files in the model's folder.
_MOST_MEMBERS = 10 * MOST_OBJECTS
# The maximum bytes of an archive, and of its unpacked content.
LARGEST_MODEL = 2 * 1024 * 1024 * 1024
VERSION_DIGITS = 16
_BLOCK = 1024 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")


class TrainedObject(NamedTuple):
    """An object in the index: `sha256` and `bytes` describe the file, `digest` its content."""

    name: str
    codec: str
    sha256: str
    digest: str
    bytes: int

    @property
    def file(self) -> str:
        """Return the file's path in the archive."""
        return f"{OBJECTS_FOLDER}/{self.name}.{self.codec}"


def version_of(stored: Sequence[TrainedObject]) -> str:
    """Return a model's version: the digest of its objects' names, codecs and contents, in any order."""
    known = sorted((each.name, each.codec, each.digest) for each in stored)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:VERSION_DIGITS]


def stored_objects(index: Mapping[str, Any], members: Mapping[str, bytes]) -> list[TrainedObject]:
    """Return the objects of an index, after checking each file's size and SHA-256.

    Raises:
        ValueError: The index is invalid, or a file is missing or altered.
    """
    stored = [TrainedObject(**each) for each in index["objects"]]
    for each in stored:
        if not (OBJECT_NAME.fullmatch(each.name) and NAME_FORM.fullmatch(each.codec)):
            raise ValueError("the name or codec of an object is invalid")
        if not (_SHA256.fullmatch(each.sha256) and isinstance(each.bytes, int)):
            raise ValueError(f"{each.name} has no SHA-256 or size")
        content = members.get(each.file)
        if content is None:
            raise ValueError(f"{each.file} is missing")
        if len(content) != each.bytes or hashlib.sha256(content).hexdigest() != each.sha256:
            raise ValueError(f"{each.file} does not have the size and SHA-256 in the index")
    names = {each.name for each in stored}
    if not 0 < len(stored) == len(names) or (not index["named"] and names != {ONLY_OBJECT}):
        raise ValueError("its objects do not have valid and unique names")
    if index["model_version"] != version_of(stored):
        raise ValueError(f"its version is {version_of(stored)}, but the index says {index['model_version']}")
    return stored


class _BoundedReader(io.RawIOBase):
    """Unpacks a gzip file up to a limit, because a small file may unpack to any size."""

    def __init__(self, archive: bytes) -> None:
        self._file = gzip.GzipFile(fileobj=io.BytesIO(archive))
        self._left = LARGEST_MODEL

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        content = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {LARGEST_MODEL} bytes")
        return content


def archive_members(archive: bytes) -> dict[str, bytes]:
    """Return the index and the files of objects by path; other members are skipped.

    Raises:
        ValueError: The archive exceeds a limit, or repeats a member.
    """
    found: dict[str, bytes] = {}
    size = 0
    # A stream reads only forwards, so that all unpacked bytes count towards the limit.
    with tarfile.open(fileobj=_BoundedReader(archive), mode="r|", bufsize=_BLOCK) as packed:
        for number, member in enumerate(packed):
            # Each member takes memory, whatever its size.
            if number > _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS} members")
            name = member.name.removeprefix("./")
            if not member.isfile() or not (name == INDEX_FILE or name.startswith(f"{OBJECTS_FOLDER}/")):
                continue
            # A sparse member may be larger than the unpacked archive.
            size += member.size
            if size > LARGEST_MODEL or name in found or len(found) > MOST_OBJECTS:
                raise ValueError(f"{name[:80]} is too large, repeated, or one object too many")
            file = packed.extractfile(member)
            found[name] = b"" if file is None else file.read()
    return found
