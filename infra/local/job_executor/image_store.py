"""The container images that exist on this machine; each is replaced by an environment.

`mlpipe up` makes the environments and adds the images by `POST /_executor/images`. They are kept across
restarts. Images of earlier lock files stay, so that jobs requested before still find their packages.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.environments.environment_cache import MadeEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_MEMBERS = {"packages", "environment"}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image.

    Attributes:
        packages: The image's tag, derived from its lock file.
        environment: The folder of the environment that replaces it.
    """

    packages: str
    environment: str

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return MadeEnvironment(Path(self.environment)).python


class ImageStore:
    """The images by the address that jobs use.

    Args:
        path: The file in which they are stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._images: dict[str, StoredImage] = {}
        if path.exists():
            try:
                self._images = _parsed(json.loads(path.read_bytes()))
            except ValueError as error:
                _LOG.warning(
                    "%s is damaged (%s): images are unknown until `mlpipe up` adds them again", path, error
                )

    def find(self, uri: str) -> StoredImage | None:
        """Return an image, or None if it does not exist or its environment was removed."""
        image = self._images.get(uri)
        return image if image is not None and image.python.exists() else None

    def add(self, document: Any) -> None:
        """Add images, replacing those with the same address.

        Args:
            document: The document of `infra.environments.job_environments`.

        Raises:
            ValueError: The document is malformed, or an environment does not exist.
        """
        added = _parsed(document)
        for uri, image in added.items():
            if not image.python.exists():
                raise ValueError(f"image {uri}: {image.python} does not exist")
        with self._lock:
            images = {**self._images, **added}
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(_document(images), indent=1))
            draft.replace(self._path)
            self._images = images

    def listed(self) -> dict[str, Any]:
        """Return all images as a document."""
        return _document(self._images)


def _document(images: Mapping[str, StoredImage]) -> dict[str, Any]:
    return {"images": {uri: asdict(images[uri]) for uri in sorted(images)}}


def _parsed(document: Any) -> dict[str, StoredImage]:
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, dict):
        raise ValueError("images must be an object with one member per image address")  # noqa: TRY004 -- the caller's fault
    for uri, image in images.items():
        is_whole = isinstance(image, dict) and set(image) == _MEMBERS
        if not is_whole or not all(isinstance(value, str) and value for value in image.values()):
            raise ValueError(f"image {uri} must have the strings {' and '.join(sorted(_MEMBERS))}")
    return {uri: StoredImage(**image) for uri, image in images.items()}
