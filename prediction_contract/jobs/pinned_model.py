"""The document beside a batch that fixes the trained model for all attempts at the batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError


class InvalidPinError(ContractError):
    """The document that names a batch's trained model is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedModel:
    """A trained model, identified by its digests.

    Attributes:
        digest: The digest of the trained objects, which is the manifest's `model_version`.
        key: The S3 key of the archive, or of the file of a model that was trained elsewhere.
        sha256: The SHA-256 of that file, in lower-case hex. It is checked before the file is parsed.
        bucket: The bucket of that file; None for the data bucket.
        codec: The format of a file that was trained elsewhere; None for the platform's own archive.
        version: Its number in the model's package group; None for a file that the declaration names.
        package_arn: The ARN of its model package; None for a file that the declaration names.
        approved_by: The rule or the person that approved it; None if nobody did.
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
        """Return the model in a document.

        Raises:
            InvalidPinError: The document is invalid.
        """
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPinError(
                f"The document that names the batch's trained model cannot be read: {error}",
                remedy="Score the partition as a new batch",
            ) from error
