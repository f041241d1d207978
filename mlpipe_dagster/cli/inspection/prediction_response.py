"""Reads an answer of the API from a file or standard input, and finds its model, batch and publication."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import BatchId, ModelName
from prediction_contract.text.canonical_json import parse_json
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

# Twice the longest answer of the API.
_MAX_BYTES = 2 * 1024 * 1024
STANDARD_INPUT = "-"


class UnreadableResponseError(ContractError):
    """The content is not an answer of the API with provenance."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            remedy="Give a JSON answer of the API that has `model` and `provenance`, or model and batch id",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionResponse:
    """The provenance in an answer of the API.

    Attributes:
        model: The model.
        batch_id: The batch that the answer comes from.
        entity_id: The entity; None if the answer is not about a single one.
        partition: The batch's partition.
        model_version: The digest of the trained objects.
        model_package_version: The registered version's number, if there is one.
        published_at: When the batch became live.
        sequence: The publication's number.
    """

    model: str
    batch_id: str
    entity_id: str | None
    partition: str | None
    model_version: str | None
    model_package_version: int | None
    published_at: str | None
    sequence: int | None


def read_response(source: str) -> PredictionResponse:
    """Read an answer from a file, or from standard input for `-`.

    Raises:
        UnreadableResponseError: The file cannot be read, or is not an answer with provenance.
    """
    try:
        if source == STANDARD_INPUT:
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableResponseError(f"{source} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise UnreadableResponseError(f"{source} is larger than any answer of the API")
    return parse_response(content)


def parse_response(content: bytes) -> PredictionResponse:
    """Return an answer's provenance.

    Raises:
        UnreadableResponseError: The content is not an answer with provenance.
    """
    try:
        document = members_of(parse_json(content), "the document")
        provenance = member(document, "provenance", dict)
        model, batch_id = (
            ModelName(member(document, "model", str)),
            BatchId(member(provenance, "batch_id", str)),
        )
    except DocumentShapeError as error:
        raise UnreadableResponseError(f"It is not an answer about a prediction: {error}") from error
    except ContractError as error:
        raise UnreadableResponseError(f"It is not an answer about a prediction: {error.what}") from error
    return PredictionResponse(
        model=model,
        batch_id=batch_id,
        entity_id=_optional(document, "entity_id", str),
        partition=_optional(provenance, "partition", str),
        model_version=_optional(provenance, "model_version", str),
        model_package_version=_optional(provenance, "model_package_version", int),
        published_at=_optional(provenance, "published_at", str),
        sequence=_optional(provenance, "sequence", int),
    )


def _optional(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    return value if type(value) is kind else None
