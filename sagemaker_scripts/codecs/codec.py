"""What a codec is, and how it tells a library's objects without importing the library."""

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
    """One file format of trained objects.

    A project's own codec is a class of this shape that takes no arguments. It need not inherit from anything.
    It may also have `digest(content) -> str`, which is the same for equal objects whose files differ, and
    `libraries`, the names of the modules whose versions the training records.

    Attributes:
        name: It stands in `model.json` and ends the file's name: lower-case letters, digits, underscores.
    """

    name: str

    def takes(self, value: Any) -> bool:
        """Tell whether this codec writes such an object; must not import the object's library."""
        ...

    def save(self, value: Any) -> bytes:
        """Return the object as a file."""
        ...

    def load(self, content: bytes) -> Any:
        """Return the object of a file, without running code that the file brings. May raise anything."""
        ...


def content_digest(codec: Codec, content: bytes) -> str:
    """Return what tells an object from another: the codec's own digest, or the SHA-256 of the file."""
    own = getattr(codec, "digest", None)
    return hashlib.sha256(content).hexdigest() if own is None else str(own(content))


def library_versions(codec: Codec) -> dict[str, str]:
    """Return the versions of the codec's libraries, as far as they are imported and tell them."""
    names: Sequence[str] = getattr(codec, "libraries", ())
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    return {name: str(version) for name, version in versions.items() if version is not None}


def is_instance_of(value: Any, library: str, *classes: str) -> bool:
    """Tell whether an object is of one of a library's classes, or of one derived from them."""
    return any(
        base.__module__.partition(".")[0] == library and base.__name__ in classes
        for base in type(value).__mro__
    )


def library_of(value: Any) -> str:
    """Return the name of the library that an object's class comes from."""
    return type(value).__module__.partition(".")[0]
