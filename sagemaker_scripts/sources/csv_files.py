"""CSV as a source: every value is text and is converted to its declared type."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceObject
from sagemaker_scripts.sources.text_files import BoundedFile
from sagemaker_scripts.tables.column_casts import SPELLED_IN_CSV

_BLOCK = 4 * 1024 * 1024
_LACKING = re.compile("Column '(.*)' in include_columns")


def csv_batches(opened: Any, found: SourceObject, columns: SourceColumns) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file with declared columns.

    Raises:
        SourceError: A column is missing, or a row does not fit; the error names the column or row.
    """
    wrong: list[Any] = []

    def note(row: Any) -> str:
        wrong.append(row)
        return "error"

    names = list(columns.declared)
    try:
        bounded = BoundedFile(opened, found, columns.source)
        reader = pyarrow.csv.open_csv(
            bounded,
            # A reader with threads gives no row numbers.
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        # Arrow would read the first of two columns with the same name.
        columns.refuse_duplicates(names, _header(bounded.beginning), found.address)
        row = 0
        for batch in reader:
            rows = pa.Table.from_batches([batch])
            yield columns.converted(rows, found.address, first_row=row, spelled=SPELLED_IN_CSV)
            row += batch.num_rows
    except pa.ArrowKeyError as error:
        lacking = _LACKING.search(str(error))
        raise columns.missing_column(lacking[1] if lacking else ", ".join(names), found.address) from error
    except pa.ArrowInvalid as error:
        if not wrong:
            raise
        number = "A row" if wrong[0].number is None else f"Row {wrong[0].number - 1}"
        raise SourceError(
            f"{number} of {found.address} of source {columns.source} has {wrong[0].actual_columns} fields, "
            f"but the header has {wrong[0].expected_columns}",
            remedy="Correct the file, then deliver it again",
        ) from error


def _header(beginning: bytes) -> list[str]:
    """Return the column names in a file's header; empty if only Arrow can parse it."""
    try:
        rows = csv.reader(io.StringIO(beginning.decode("utf-8-sig", "replace"), newline=""))
        return next((row for row in rows if row), [])
    except csv.Error:
        return []
