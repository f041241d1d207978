"""An answer of the API as a file or from standard input: which model, batch and publication it speaks of."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prediction_contract.batch import BatchId, ModelName
from prediction_contract.canonical_json import InvalidJsonError, parse_json
from prediction_contract.errors import ContractError

# Twice what the API answers with at most.
_MOST_BYTES = 2 * 1024 * 1024
STANDARD_INPUT = "-"


class UnreadableAnswerError(ContractError):
    """What was given is no answer of the API that says where it comes from."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            remedy="Give a JSON answer of the API that has `model` and `provenance`, or model and batch id",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAnswer:
    """What an answer says of itself.

    Attributes:
        model: The model.
        batch_id: The batch that it was answered from.
        entity_id: The entity, if it is about one.
        partition: As the answer says.
        model_version: As the answer says.
        published_at: As the answer says.
        sequence: As the answer says.
    """

    model: str
    batch_id: str
    entity_id: str | None
    partition: str | None
    model_version: str | None
    published_at: str | None
    sequence: int | None


def read_answer(source: str) -> ApiAnswer:
    """Return what the answer in a file says, or the one on standard input for `-`.

    Raises:
        UnreadableAnswerError: There is none, or it does not say where it comes from.
    """
    try:
        if source == STANDARD_INPUT:
            content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableAnswerError(f"{source} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise UnreadableAnswerError(f"{source} is larger than any answer of the API")
    return parse_answer(content)


def parse_answer(content: bytes) -> ApiAnswer:
    """Return what an answer says of itself.

    Raises:
        UnreadableAnswerError: It does not say where it comes from.
    """
    try:
        document: Any = parse_json(content)
        provenance = document["provenance"]
        model, batch_id = ModelName(document["model"]), BatchId(provenance["batch_id"])
    except (InvalidJsonError, KeyError, TypeError) as error:
        raise UnreadableAnswerError(f"It has no model and provenance: {error}"[:300]) from error
    except ContractError as error:
        raise UnreadableAnswerError(error.what) from error
    return ApiAnswer(
        model=model,
        batch_id=batch_id,
        entity_id=_member(document, "entity_id", str),
        partition=_member(provenance, "partition", str),
        model_version=_member(provenance, "model_version", str),
        published_at=_member(provenance, "published_at", str),
        sequence=_member(provenance, "sequence", int),
    )


def _member(document: dict[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    return value if type(value) is kind else None
