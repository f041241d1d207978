"""Reads features from Parquet files that were prepared elsewhere, and converts the rows while reading."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet

from prediction_contract.naming.batch import Partition
from prediction_contract.rows.schema import ColumnType
from prediction_contract.text.json_members import member
from sagemaker_scripts.features.source_rows import SourceRows, with_partition
from sagemaker_scripts.sources.known_rows import known_rows
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_files import group_batches, translate_read_errors

# The compressed bytes of each column in memory while a row group is read.
_BUFFER_BYTES = 64 * 1024

Constants = tuple[tuple[str, str | None], ...]


def local_parquet(path: Path, **options: Any) -> pyarrow.parquet.ParquetFile:
    """Open a file on local disk for reading with little memory."""
    # By default, pyarrow keeps all requested row groups compressed in memory until the last is read.
    return pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES, **options)


@dataclass(frozen=True)
class RowsElsewhere:
    """Reads features from the Parquet files of a source.

    Attributes:
        rows: The conversion of a source's rows to features.
        columns: The names and types of the declared columns; empty to read all columns.
        known_at: The column with the time when a row became known; None without such a column.
        given: The columns of a Delta table, whose files may lack some; None for plain files.
        schema: The schema of the features; None until all files are known.
    """

    rows: SourceRows
    columns: tuple[tuple[str, str], ...]
    known_at: str | None
    given: pa.Schema | None
    schema: pa.Schema | None = None

    def group(
        self,
        file: pyarrow.parquet.ParquetFile,
        number: int,
        where: str,
        constants: Constants,
        *,
        first_row: int = 0,
        first_feature: int = 0,
    ) -> Iterator[pa.Table]:
        """Yield the features from the rows of a row group.

        Args:
            file: The file.
            number: The row group, from 0.
            where: The file's address, for errors.
            constants: The columns that the file does not contain.
            first_row: The number of the file's rows before these, for errors.
            first_feature: The number of the partition's features before these, for errors.

        Raises:
            SourceError: The file is damaged, or a row does not fit.
            EntityRowsError: A row has no entity.
        """
        columns = self._source_columns()
        start = Partition(self.rows.partition).start
        with translate_read_errors(where, self.rows.source):
            names = file.schema_arrow.names
            if self.given is None:
                names = columns.wanted(names, where)
            else:
                names = [name for name in self.given.names if name in names]
            for before, batch in group_batches(file, number, names, columns):
                given = batch if self.given is None else _as_given(batch, self.given, dict(constants))
                rows = columns.converted(given, where, first_row=first_row + before)
                features = self.rows.features(known_rows(rows, self.known_at, start), first_feature)
                first_feature += features.num_rows
                found = with_partition(features, self.rows.partition)
                yield found if self.schema is None else found.cast(self.schema)

    @contextmanager
    def opened(self, path: Path, where: str) -> Iterator[pyarrow.parquet.ParquetFile]:
        """Open a file with the options that these rows need.

        Raises:
            SourceError: The file is not Parquet.
        """
        # Files of Delta tables written by Spark have times in nanoseconds, but the table has microseconds.
        unit = None if self.given is None else "us"
        with translate_read_errors(where, self.rows.source):
            file = local_parquet(path, coerce_int96_timestamp_unit=unit)
        with file:
            yield file

    def empty_features(self, names: pa.Schema, where: str) -> pa.Table:
        """Return an empty table of features, given a file's columns; a Delta table has its own columns."""
        columns = self._source_columns()
        given = (self.given or names).empty_table()
        wanted = given.select(columns.wanted(given.column_names, where))
        return with_partition(self.rows.features(columns.converted(wanted, where)), self.rows.partition)

    def _source_columns(self) -> SourceColumns:
        declared = {name: ColumnType.parse(kind) for name, kind in self.columns}
        until = Partition(self.rows.partition).start
        return SourceColumns(self.rows.source, declared, self.known_at, until)

    @classmethod
    def parse(cls, document: Mapping[str, Any], partition: str, model: str) -> Self:
        """Parse the conversion from its JSON form in an index.

        Raises:
            ValueError: The document is malformed.
        """
        known_at, given = document.get("known_at"), document.get("given")
        rows = SourceRows(member(document, "source", str), member(document, "entity", str), partition, model)
        return cls(
            rows,
            tuple((str(name), str(kind)) for name, kind in member(document, "columns", list)),
            None if known_at is None else str(known_at),
            None if given is None else _schema(member(document, "given", str)),
            _schema(member(document, "schema", str)),
        )

    def to_document(self) -> dict[str, Any]:
        """Return the JSON form for an index; partition and model are separate members of the index."""
        return {
            "source": self.rows.source,
            "entity": self.rows.entity,
            "columns": [list(each) for each in self.columns],
            "known_at": self.known_at,
            "given": None if self.given is None else _text(self.given),
            "schema": None if self.schema is None else _text(self.schema),
        }


def _as_given(batch: pa.Table, given: pa.Schema, constants: Mapping[str, str | None]) -> pa.Table:
    """Return rows in a Delta table's types, with the columns that their file does not contain."""
    arrays = []
    for field in given:
        if field.name in batch.column_names:
            arrays.append(batch[field.name].cast(field.type))
        else:
            value = pa.scalar(constants.get(field.name), pa.string()).cast(field.type)
            arrays.append(pa.repeat(value, batch.num_rows))
    return pa.table(arrays, schema=given)


def _text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema(text: str) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except pa.ArrowException as error:
        raise ValueError("it holds a schema that cannot be read") from error
