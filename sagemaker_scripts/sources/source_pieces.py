"""Pieces of a source's rows, each from one file, table or query, and their concatenation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from sagemaker_scripts.sources.source_objects import SourceError, SourceRead


class SourceStream(NamedTuple):
    """A source's rows in batches, from one filled path or query, or from one file.

    Attributes:
        batches: The rows; the first batch has the columns and no rows.
        reads: The records of what was read; complete after all batches.
        where: The file, table or query, for errors.
    """

    batches: Iterator[pa.Table]
    reads: list[SourceRead]
    where: str


class SourcePiece(NamedTuple):
    """A source's rows for one filled path or query.

    Attributes:
        rows: All rows.
        reads: The records of what was read.
        where: The file, table or query, for errors.
    """

    rows: pa.Table
    reads: list[SourceRead]
    where: str


def joined_pieces(pieces: list[SourcePiece], source: str) -> pa.Table:
    """Return the rows of all pieces, which must have the same columns.

    Raises:
        SourceError: Two pieces have different columns; the error names both.
    """
    # The first piece that has a type for each column; a column of a file without any value has no type.
    typed: dict[str, SourcePiece] = {}
    before = None
    for piece in pieces:
        if before is None or piece.rows.schema != before:
            before = piece.rows.schema
            for name in dict.fromkeys([*pieces[0].rows.schema.names, *typed, *before.names]):
                _require_same_columns(name, typed.get(name, pieces[0]), piece, source)
            typed = {field.name: piece for field in before if not pa.types.is_null(field.type)} | typed
    return pa.concat_tables((piece.rows for piece in pieces), promote_options="default")


def _require_same_columns(name: str, first: SourcePiece, other: SourcePiece, source: str) -> None:
    schemas = (first.rows.schema, other.rows.schema)
    kinds = [each.field(name).type if name in each.names else None for each in schemas]
    if kinds[0] != kinds[1] and not any(kind is not None and pa.types.is_null(kind) for kind in kinds):
        shown = [f"has {name} as {kind}" if kind is not None else f"has no column {name}" for kind in kinds]
        raise SourceError(
            f"The files of source {source} differ: {first.where} {shown[0]}, but {other.where} {shown[1]}",
            remedy="Declare the source's columns in defs.yaml, so that they are the same in all files, or "
            "deliver one of the files again",
        )


def aligned(rows: pa.Table, schema: pa.Schema, source: str) -> pa.Table:
    """Return rows with the schema of the earlier rows.

    Raises:
        SourceError: The rows have other columns.
    """
    if rows.schema == schema:
        return rows
    is_same = rows.column_names == schema.names and all(
        pa.types.is_null(field.type) or field.type == schema.field(field.name).type for field in rows.schema
    )
    if not is_same:
        raise SourceError(
            f"The files of source {source} differ in their columns",
            remedy="Declare the source's columns in defs.yaml, so that they are the same in all files, or "
            "deliver one of the files again",
        )
    return rows.cast(schema)
