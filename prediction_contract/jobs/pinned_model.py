"""The trained model that all attempts at a batch use, as it lies beside the batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError


class InvalidPinError(ContractError):
    """The document that names a batch's trained model has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedModel:
    """A trained model, named so that nothing can take its place.

    Attributes:
        digest: Of the trained objects: the manifest's `model_version`.
        key: The archive, or the file of a model that was trained elsewhere.
        sha256: Of that file, in lower-case hex; it is checked before the file is parsed.
        bucket: Its bucket; None for the data bucket.
        codec: The format of a file that was trained elsewhere; None for the platform's own archive.
        version: Its number in the model's package group; None for a file that the declaration names.
        package_arn: Its model package.
        approved_by: Who approved it: a rule or a person.
    """

    digest: str
    key: str
    sha256: str
    bucket: str | None = None
    codec: str | None = None
    version: int | None = None
    package_arn: str | None = None
    approved_by: str | None = None

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the model that a document names.

        Raises:
            InvalidPinError: It has another form.
        """
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPinError(
                f"The document that names the batch's trained model cannot be read: {error}",
                remedy="Score the partition as a new batch",
            ) from error
