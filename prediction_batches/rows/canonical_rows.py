"""Joins columns' texts to rows of canonical JSON, and computes their checksums and lines."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.rows.canonical_lines import QUOTES
from prediction_contract.rows.row_contract import CHECKSUM_MEMBER
from prediction_contract.rows.schema import PredictionSchema


class CanonicalRows:
    """Joins rows of one schema.

    The key always has a value. So members before the key end with a comma, and members after it begin with
    one. A missing value adds no text.

    Args:
        schema: The model's schema.
    """

    def __init__(self, schema: PredictionSchema) -> None:
        places = {column.name: place for place, column in enumerate(schema.columns)}
        names = sorted(places)
        self._key = key = names.index(schema.key)
        self._members = [
            (
                places[name],
                f"{',' if number > key else ''}{encode_basestring(name)}:{quote}",
                f"{quote}{',' if number < key else ''}",
            )
            for number, name in enumerate(names)
            for quote in [QUOTES.get(schema.columns[places[name]].type.kind, "")]
        ]

    def joined(self, texts: Sequence[pa.Array]) -> pa.Array:
        """Return the rows' canonical JSON.

        Args:
            texts: The texts of the columns, in the schema's order, without quotation marks; null where there
                is no value. A missing key is written as an empty one.
        """
        arguments: list[Any] = []
        constant = "{"
        for number, (place, before, after) in enumerate(self._members):
            values = texts[place]
            if not values.null_count or number == self._key:
                arguments += [constant + before, pc.fill_null(values, "") if values.null_count else values]
                constant = after
            else:
                member = pc.binary_join_element_wise(before, values, after, "")
                arguments += [constant, pc.fill_null(member, "")]
                constant = ""
        return pc.binary_join_element_wise(*arguments, f"{constant}}}", "")


def checksums_of(canonical: pa.Array) -> np.ndarray:
    """Return the `row_checksum` of each text."""
    # Copying an empty state is faster than calling the constructor.
    begin = hashlib.blake2b(digest_size=8).copy
    digests: list[bytes] = []
    keep = digests.append
    for content in canonical.cast(pa.binary()).to_pylist():
        state = begin()
        state.update(content)
        keep(state.digest())
    return np.frombuffer(b"".join(digests), ">i8").astype(np.int64)


def lines_with_checksums(canonical: pa.Array, checksums: np.ndarray) -> pa.Array:
    """Return canonical rows as lines that include their checksums."""
    opened = pc.binary_slice(canonical.cast(pa.binary()), 0, -1)
    stated = pc.cast(pa.array(checksums), pa.string()).cast(pa.binary())
    member = f',"{CHECKSUM_MEMBER}":'.encode()
    return pc.binary_join_element_wise(opened, pa.scalar(member), stated, pa.scalar(b"}\n"), pa.scalar(b""))
