"""JSON lines as a source: reads blocks and converts values to the declared types."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.json

from prediction_batches.arrow_types import arrow_type
from prediction_contract.rows.schema import Kind
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceObject
from sagemaker_scripts.sources.text_files import BoundedFile
from sagemaker_scripts.tables.column_casts import SPELLED_IN_JSON

_BLOCK = 4 * 1024 * 1024
LONGEST_LINE = 64 * 1024 * 1024
_LONG_END = 2**63
_TEXTS = frozenset({Kind.STRING, Kind.DATE, Kind.TIMESTAMP})
# Arrow would read decimals as doubles, and all JSON values of a column as one type.
_PARSED = frozenset({Kind.DECIMAL, Kind.JSON})


def json_line_batches(opened: Any, found: SourceObject, columns: SourceColumns) -> Iterator[pa.Table]:
    """Yield the rows of a file of JSON lines with declared columns.

    Raises:
        SourceError: A column is missing in all lines, or a line does not fit; the error names column or line.
    """
    plain = [
        (name, pa.string() if kind.kind in _TEXTS else arrow_type(kind))
        for name, kind in columns.declared.items()
        if kind.kind not in _PARSED
    ]
    parsed = {name: kind.kind for name, kind in columns.declared.items() if kind.kind in _PARSED}
    lacking = set(columns.declared)
    lines = rows = 0
    for block in _blocks_of_lines(BoundedFile(opened, found, columns.source), found, columns.source):
        if block.strip():
            try:
                members = _plain_members(block, pa.schema(plain)) | _parsed_members(block, parsed)
            except (ValueError, RecursionError) as error:
                raise _faulty_line(block, lines, columns, found) from error
            lacking -= {name for name in lacking if f'"{name}"'.encode() in block}
            table = pa.table(members)
            yield columns.converted(table, found.address, first_row=rows, spelled=SPELLED_IN_JSON)
            rows += table.num_rows
        lines += len(block.splitlines())
    # A member missing in one line is a missing value. If it is missing in all lines, the file has another
    # form.
    if rows and lacking:
        raise columns.missing_column(
            next(name for name in columns.declared if name in lacking), found.address
        )


def _blocks_of_lines(opened: BoundedFile, found: SourceObject, source: str) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines."""
    rest = b""
    while content := opened.read(_BLOCK):
        rest += content
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
        if len(rest) > LONGEST_LINE:
            raise SourceError(
                f"{found.address} of source {source} has a line of more than {LONGEST_LINE} bytes",
                remedy="Deliver it with one row per line, or as Parquet",
            )
    if rest:
        yield rest


def _plain_members(content: bytes, schema: pa.Schema) -> dict[str, Any]:
    """Return the members that Arrow reads exactly, by name."""
    if not schema.names:
        return {}
    table = pyarrow.json.read_json(
        io.BytesIO(content),
        read_options=pyarrow.json.ReadOptions(block_size=len(content)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return {name: table[name] for name in schema.names}


def _parsed_members(content: bytes, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return decimals with all their digits, and JSON values as text, by name.

    Raises:
        ValueError: A line is not a JSON object, or has an invalid number.
        RecursionError: A line has too many levels.
    """
    if not kinds:
        return {}
    values: dict[str, list[str | None]] = {name: [] for name in kinds}
    for line in content.splitlines():
        if line.strip():
            document = json.loads(line, parse_float=Decimal, parse_constant=_refuse_constant)
            if not isinstance(document, dict):
                raise ValueError
            for name, kind in kinds.items():
                values[name].append(_as_text(document.get(name), kind))
    return {name: pa.array(each, pa.string()) for name, each in values.items()}


def _as_text(value: Any, kind: Kind) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if kind is Kind.JSON:
        return json.dumps(
            value, separators=(",", ":"), ensure_ascii=False, default=_finite_float, allow_nan=False
        )
    return str(value)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _finite_float(value: Decimal) -> float:
    # The encoder does not check the result of this function for infinities.
    if not isfinite(number := float(value)):
        raise ValueError("too large")
    return number


def _faulty_line(content: bytes, before: int, columns: SourceColumns, found: SourceObject) -> SourceError:
    """Return the error for the first line that is not an object with the declared columns."""
    where = f"{found.address} of source {columns.source}"
    for number, line in enumerate(content.splitlines(), before + 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return SourceError(
                f"Line {number} of {where} is not a JSON object",
                remedy="Correct the file, then deliver it again",
            )
        for name, kind in columns.declared.items():
            if not _fits(document.get(name), kind.kind):
                return columns.wrong_value(name, number, f"its value is not a valid {kind}", found.address)
    return SourceError(
        f"{where} cannot be read: a line names a member twice, or holds text that is not Unicode or a "
        "number that is too large",
        remedy="Correct the file, then deliver it again",
    )


def _fits(value: Any, kind: Kind) -> bool:
    if value is None or kind in _PARSED:
        return True
    if kind in _TEXTS:
        return isinstance(value, str)
    if kind is Kind.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind is Kind.LONG else (int, float)):
        return False
    return kind is not Kind.LONG or -_LONG_END <= value < _LONG_END
