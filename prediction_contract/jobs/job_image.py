"""The images that SageMaker jobs run in: one for each family of requirements, named by its lock file.

An image says in its environment of which lock file it was made, and a job is told which one its model needs:
a job that finds itself in another image ends before it works.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prediction_contract.errors import ContractError

# The packages of the platform alone: of models that need no others.
BASE_FAMILY = "base"
# Set by a job's request, and by the image itself.
NEEDED_VARIABLE = "MLPIPE_NEEDED_PACKAGES"
HELD_VARIABLE = "MLPIPE_IMAGE_PACKAGES"
_FAMILY = re.compile("[a-z][a-z0-9_]{0,40}")
_DIGITS = 16


class JobImageError(ContractError):
    """A job runs in an image with other packages than its model needs, or a family has another form."""


@dataclass(frozen=True, slots=True)
class JobImage:
    """The image of a family.

    Attributes:
        family: By which a model names its requirements: `base`, or a file of the project's `requirements/`.
        lock_sha256: Of the family's lock file, in lower-case hex.
    """

    family: str
    lock_sha256: str

    def __post_init__(self) -> None:
        if not _FAMILY.fullmatch(self.family):
            raise JobImageError(
                f"{self.family!r} names no family of requirements",
                remedy="Take up to 41 lower-case letters, digits and underscores, a letter first",
            )

    @classmethod
    def of_lock(cls, family: str, content: bytes) -> Self:
        """Return the image that is made of a lock file."""
        return cls(family, hashlib.sha256(content).hexdigest())

    @property
    def tag(self) -> str:
        """Its tag in its repository, which is also what it says of itself: `boosting-0123456789abcdef`."""
        return f"{self.family}-{self.lock_sha256[:_DIGITS]}"

    def uri(self, repository: str) -> str:
        """Return its name for SageMaker.

        Args:
            repository: The repository's address, without a tag.
        """
        return f"{repository}:{self.tag}"

    @property
    def job_environment(self) -> dict[str, str]:
        """The variables by which a job is told which image its model needs."""
        return {NEEDED_VARIABLE: self.tag}


def require_needed_packages(environment: Mapping[str, str]) -> None:
    """Refuse to work in an image with other packages than were asked for.

    A job that was started without saying which it needs takes what it finds.

    Args:
        environment: The job's, such as `os.environ`.

    Raises:
        JobImageError: The image is another one.
    """
    needed, held = environment.get(NEEDED_VARIABLE), environment.get(HELD_VARIABLE)
    if needed is None or needed == held:
        return
    found = f"this image holds {held}" if held else f"this image does not say so by {HELD_VARIABLE}"
    raise JobImageError(
        f"The job needs the packages {needed}, and {found}",
        remedy="Build the family's image from its Dockerfile and lock file, push it under that tag, "
        "and start the job again",
    )
