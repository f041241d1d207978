"""The interface of codecs, and functions that recognize a library's objects without importing it."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from prediction_contract.errors import ContractError

NAME_FORM = re.compile("[a-z][a-z0-9_]{0,30}")


class CodecError(ContractError):
    """A trained object cannot be written, or its file cannot be read."""


class Codec(Protocol):
    """A file format of trained objects.

    A project's own codec is a class with these members and a constructor without arguments. It needs no base
    class. It may also have `digest(content) -> str`, for equal objects whose files differ, and `libraries`,
    the names of modules whose versions are recorded at training.

    Attributes:
        name: The name in `model.json`, and the file extension: lower-case letters, digits, underscores.
    """

    name: str

    def takes(self, value: Any) -> bool:
        """Tell whether this codec can write the object; must not import the object's library."""
        ...

    def save(self, value: Any) -> bytes:
        """Return the object as a file."""
        ...

    def load(self, content: bytes) -> Any:
        """Return the object from a file, without running code in the file. May raise any error."""
        ...


def content_digest(codec: Codec, content: bytes) -> str:
    """Return the digest that identifies an object: the codec's own, or the SHA-256 of the file."""
    own = getattr(codec, "digest", None)
    return hashlib.sha256(content).hexdigest() if own is None else str(own(content))


def library_versions(codec: Codec) -> dict[str, str]:
    """Return the versions of the codec's libraries that are imported and have a `__version__`."""
    names: Sequence[str] = getattr(codec, "libraries", ())
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    return {name: str(version) for name, version in versions.items() if version is not None}


def is_instance_of(value: Any, library: str, *classes: str) -> bool:
    """Tell whether an object is an instance of one of a library's classes or of a subclass."""
    return any(
        base.__module__.partition(".")[0] == library and base.__name__ in classes
        for base in type(value).__mro__
    )


def library_of(value: Any) -> str:
    """Return the name of the library of an object's class."""
    return type(value).__module__.partition(".")[0]
