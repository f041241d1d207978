"""The images of SageMaker jobs: one per family of requirements, with the digest of its lock file in the tag.

An image's environment contains its own tag. A job's request contains the tag of the image that its model
needs. If they differ, the job fails before it does any work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prediction_contract.errors import ContractError

# The family of models that need only the platform's packages.
BASE_FAMILY = "base"
# The first is set by a job's request, the second by the image.
NEEDED_VARIABLE = "MLPIPE_NEEDED_PACKAGES"
HELD_VARIABLE = "MLPIPE_IMAGE_PACKAGES"
_FAMILY = re.compile("[a-z][a-z0-9_]{0,40}")
_DIGITS = 16


class JobImageError(ContractError):
    """A job runs in an image without the packages that its model needs, or a family's name is invalid."""


@dataclass(frozen=True, slots=True)
class JobImage:
    """The image of a family.

    Attributes:
        family: The name of the requirements: `base`, or a file in the project's `requirements/`.
        lock_sha256: The SHA-256 of the family's lock file, in lower-case hex.
    """

    family: str
    lock_sha256: str

    def __post_init__(self) -> None:
        if not _FAMILY.fullmatch(self.family):
            raise JobImageError(
                f"{self.family!r} is not the name of a family of requirements",
                remedy="Use up to 41 lower-case letters, digits and underscores, beginning with a letter",
            )

    @classmethod
    def of_lock(cls, family: str, content: bytes) -> Self:
        """Return the image for a lock file's content."""
        return cls(family, hashlib.sha256(content).hexdigest())

    @property
    def tag(self) -> str:
        """Its tag in the repository and in its own environment, for example `boosting-0123456789abcdef`."""
        return f"{self.family}-{self.lock_sha256[:_DIGITS]}"

    def uri(self, repository: str) -> str:
        """Return its URI for SageMaker.

        Args:
            repository: The repository's address, without a tag.
        """
        return f"{repository}:{self.tag}"

    @property
    def job_environment(self) -> dict[str, str]:
        """The environment variables that tell a job which image its model needs."""
        return {NEEDED_VARIABLE: self.tag}


def require_needed_packages(environment: Mapping[str, str]) -> None:
    """Refuse to work in an image without the needed packages.

    A job whose request does not name an image accepts any image.

    Args:
        environment: The job's environment, usually `os.environ`.

    Raises:
        JobImageError: The job runs in another image than it needs.
    """
    needed, held = environment.get(NEEDED_VARIABLE), environment.get(HELD_VARIABLE)
    if needed is None or needed == held:
        return
    found = f"this image has {held}" if held else f"this image does not set {HELD_VARIABLE}"
    raise JobImageError(
        f"The job needs the packages {needed}, but {found}",
        remedy="Build the family's image from its Dockerfile and lock file, push it under that tag, "
        "and start the job again",
    )
