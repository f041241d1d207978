"""Files of a source: Parquet, CSV and JSONL."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from prediction_batches.arrow_types import arrow_type
from prediction_batches.object_store import ObjectStore
from prediction_contract.rows.schema import Kind
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceObject, open_object
from sagemaker_scripts.tables.column_casts import SPELLED_IN_CSV, SPELLED_IN_JSON

BATCH_ROWS = 65_536
_CSV_BLOCK = 4 * 1024 * 1024
_JSON_BLOCK = 16 * 1024 * 1024
# A file of lines is held whole, because only then a faulty line can be named.
LARGEST_JSON_FILE = 1024 * 1024 * 1024
# Its rows are all held, and few bytes unpack to any number.
LARGEST_CSV_FILE = 8 * 1024 * 1024 * 1024
_LACKING = re.compile("Column '(.*)' in include_columns")
_LONG_END = 2**63
_TEXTS_IN_JSON = frozenset({Kind.STRING, Kind.DATE, Kind.TIMESTAMP})
# Arrow would make doubles of decimals, and one type of all JSON values.
_PARSED_IN_JSON = frozenset({Kind.DECIMAL, Kind.JSON})


def read_file(store: ObjectStore, found: SourceObject, file_format: str, columns: SourceColumns) -> pa.Table:
    """Return the rows of a file; an empty one has none.

    Args:
        store: The file's bucket.
        found: The file.
        file_format: `parquet`, `csv` or `jsonl`; a name that ends in `.gz` says that the last two are packed.
        columns: Which columns are read. Those of `csv` and `jsonl` are declared.

    Raises:
        SourceError: The file is damaged, lacks a column, or a row does not fit; the error names them.
    """
    in_order = file_format != "parquet"
    with _named_damage(found, columns.source), open_object(store, found, in_order=in_order) as opened:
        if file_format == "parquet":
            return _parquet(opened, found, columns)
        if not found.size:
            return columns.schema.empty_table()
        plain = pa.CompressedInputStream(opened, "gzip") if found.key.endswith(".gz") else opened
        return (_csv if file_format == "csv" else _jsonl)(plain, found, columns)


@contextmanager
def _named_damage(found: SourceObject, source: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        # Arrow's own words may quote a value.
        raise SourceError(
            f"{found.address} of source {source} cannot be read: it is damaged, or of another format",
            remedy="Deliver the file again, or correct the source's format in defs.yaml",
        ) from error


def _parquet(opened: Any, found: SourceObject, columns: SourceColumns) -> pa.Table:
    with pyarrow.parquet.ParquetFile(opened, pre_buffer=True) as file:
        given = file.schema_arrow
        names = columns.wanted(given.names, found.address)
        tables = [columns.converted(given.empty_table().select(names), found.address)]
        first = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            if not _is_late(group, columns):
                row = first
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[number], columns=names):
                    rows = pa.Table.from_batches([batch])
                    tables.append(columns.converted(rows, found.address, first_row=row))
                    row += batch.num_rows
            first += group.num_rows
        return pa.concat_tables(tables)


def _is_late(group: Any, columns: SourceColumns) -> bool:
    """Tell whether a row group says of itself that all its rows became known too late."""
    if columns.until is None or columns.known_at is None:
        return False
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == columns.known_at and column.is_stats_set:
            least = column.statistics.min if column.statistics.has_min_max else None
            # Without a zone it is no moment that can be compared, so its rows are read.
            return isinstance(least, datetime) and least.tzinfo is not None and least >= columns.until
    return False


def _csv(opened: Any, found: SourceObject, columns: SourceColumns) -> pa.Table:
    wrong: list[Any] = []

    def note(row: Any) -> str:
        wrong.append(row)
        return "error"

    names = list(columns.declared)
    try:
        bounded = _BoundedFile(opened, found, columns.source)
        reader = pyarrow.csv.open_csv(
            bounded,
            # Rows of a threaded reader have no numbers.
            read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        # Arrow takes the first of two columns of one name.
        columns.refuse_doubled(names, _header(bounded.beginning), found.address)
        tables = [columns.schema.empty_table()]
        row = 0
        for batch in reader:
            rows = pa.Table.from_batches([batch])
            tables.append(columns.converted(rows, found.address, first_row=row, spelled=SPELLED_IN_CSV))
            row += batch.num_rows
    except pa.ArrowKeyError as error:
        lacking = _LACKING.search(str(error))
        raise columns.lacks(lacking[1] if lacking else ", ".join(names), found.address) from error
    except pa.ArrowInvalid as error:
        if not wrong:
            raise
        number = "A row" if wrong[0].number is None else f"Row {wrong[0].number - 1}"
        raise SourceError(
            f"{number} of {found.address} of source {columns.source} has {wrong[0].actual_columns} fields, "
            f"and the header {wrong[0].expected_columns}",
            remedy="Deliver the file again",
        ) from error
    return pa.concat_tables(tables)


def _header(beginning: bytes) -> list[str]:
    """Return the names at the head of a file, none if only Arrow can read them."""
    try:
        rows = csv.reader(io.StringIO(beginning.decode("utf-8-sig", "replace"), newline=""))
        return next((row for row in rows if row), [])
    except csv.Error:
        return []


class _BoundedFile(io.RawIOBase):
    """A file that is read forwards, up to the largest that a file of CSV may be, and what came first."""

    def __init__(self, opened: Any, found: SourceObject, source: str) -> None:
        super().__init__()
        self._opened = opened
        self._found = found
        self._source = source
        self._left = LARGEST_CSV_FILE
        self.beginning = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._opened.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._found, self._source, LARGEST_CSV_FILE)
        self.beginning = self.beginning or content
        return content


def _too_large(found: SourceObject, source: str, largest: int) -> SourceError:
    return SourceError(
        f"{found.address} of source {source} has more than {largest} bytes unpacked",
        remedy="Deliver it as several files, or as Parquet",
    )


def _jsonl(opened: Any, found: SourceObject, columns: SourceColumns) -> pa.Table:
    content = opened.read(LARGEST_JSON_FILE + 1)
    if len(content) > LARGEST_JSON_FILE:
        raise _too_large(found, columns.source, LARGEST_JSON_FILE)
    if not content.strip():
        return columns.schema.empty_table()
    plain = [
        (name, pa.string() if kind.kind in _TEXTS_IN_JSON else arrow_type(kind))
        for name, kind in columns.declared.items()
        if kind.kind not in _PARSED_IN_JSON
    ]
    parsed = {name: kind.kind for name, kind in columns.declared.items() if kind.kind in _PARSED_IN_JSON}
    try:
        found_columns = _plain_members(content, pa.schema(plain)) | _parsed_members(content, parsed)
    except (ValueError, RecursionError) as error:
        raise _faulty_line(content, columns, found) from error
    for name in columns.declared:
        # A member that a line leaves out is no value, but a file in which no line has it has another form.
        if f'"{name}"'.encode() not in content:
            raise columns.lacks(name, found.address)
    return columns.converted(pa.table(found_columns), found.address, spelled=SPELLED_IN_JSON)


def _plain_members(content: bytes, schema: pa.Schema) -> dict[str, Any]:
    """Return the members whose values Arrow reads exactly, by name."""
    if not schema.names:
        return {}
    table = pyarrow.json.read_json(
        io.BytesIO(content),
        read_options=pyarrow.json.ReadOptions(block_size=_JSON_BLOCK),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return {name: table[name] for name in schema.names}


def _parsed_members(content: bytes, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return decimals with all digits that are written, and JSON values as text, by name.

    Raises:
        ValueError: A line is no JSON object, or has a number that no JSON value may be.
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
    # An encoder does not look for infinities in what it is given here.
    if not isfinite(number := float(value)):
        raise ValueError("too large")
    return number


def _faulty_line(content: bytes, columns: SourceColumns, found: SourceObject) -> SourceError:
    """Return the error of the first line that is no object of the declared columns."""
    where = f"{found.address} of source {columns.source}"
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return SourceError(f"Line {number} of {where} is no JSON object", remedy="Deliver the file again")
        for name, kind in columns.declared.items():
            if not _fits(document.get(name), kind.kind):
                return columns.wrong(name, number, f"its value is no {kind}", found.address)
    return SourceError(
        f"{where} cannot be read: a line names a member twice, or holds text that is no "
        "Unicode or a number that is too large",
        remedy="Deliver the file again",
    )


def _fits(value: Any, kind: Kind) -> bool:
    if value is None or kind in _PARSED_IN_JSON:
        return True
    if kind in _TEXTS_IN_JSON:
        return isinstance(value, str)
    if kind is Kind.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind is Kind.LONG else (int, float)):
        return False
    return kind is not Kind.LONG or -_LONG_END <= value < _LONG_END
