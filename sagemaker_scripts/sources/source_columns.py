"""The columns of a source: the declared columns in their types, or all columns in plain types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from prediction_batches.arrow_types import arrow_type, plain_type
from prediction_contract.jobs.model_inputs import Source
from prediction_contract.rows.schema import ColumnType, Kind
from sagemaker_scripts.sources.source_objects import SourceError
from sagemaker_scripts.tables.column_casts import CastError, cast_column


@dataclass(frozen=True)
class SourceColumns:
    """The columns to read from a source, their conversion, and its errors.

    Attributes:
        source: The source's name.
        declared: The name and type of each column; empty to read all columns.
        known_at: The column with the time when a row became known; None without such a column.
        until: Rows that became known at this time or later are not needed; None if all rows are needed.
    """

    source: str
    declared: dict[str, ColumnType]
    known_at: str | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, source: Source, until: datetime | None) -> SourceColumns:
        """Return the columns of a declared source.

        Raises:
            SourceError: `known_at` is not a declared timestamp.
            SchemaError: A column's type is invalid.
        """
        declared = {name: ColumnType.parse(kind) for name, kind in source.columns}
        if source.known_at is not None and declared:
            kind = declared.get(source.known_at)
            if kind is None or kind.kind is not Kind.TIMESTAMP:
                raise SourceError(
                    f"Source {source.name} declares {source.known_at} as known_at, but not as a timestamp",
                    remedy="Correct its columns in defs.yaml",
                )
        return cls(source.name, declared, source.known_at, until)

    @property
    def schema(self) -> pa.Schema:
        """The schema of the declared columns."""
        return pa.schema([(name, arrow_type(kind)) for name, kind in self.declared.items()])

    def wanted(self, there: Iterable[str], where: str) -> list[str]:
        """Return the names of the columns to read, given the existing columns.

        Raises:
            SourceError: A declared column is missing, or a column to read exists more than once.
        """
        names = list(there)
        for name in self.declared:
            if name not in names:
                raise self.missing_column(name, where)
        wanted = list(self.declared) or names
        self.refuse_duplicates(wanted, names, where)
        return wanted

    def refuse_duplicates(self, wanted: Iterable[str], there: list[str], where: str) -> None:
        """Refuse a column to read that exists more than once, because it is ambiguous.

        Raises:
            SourceError: There is such a column.
        """
        for name in wanted:
            if there.count(name) > 1:
                raise SourceError(
                    f"{where} of source {self.source} has more than one column {name}",
                    remedy="Deliver it with unique column names",
                )

    def converted(
        self, rows: pa.Table, where: str, *, first_row: int = 0, spelled: frozenset[Kind] = frozenset()
    ) -> pa.Table:
        """Return rows with the declared columns in their types, or all columns in plain types.

        Args:
            rows: The rows as they were read.
            where: The file or table, for errors.
            first_row: The number of rows of the same file before these.
            spelled: The kinds whose values the format may write as text.

        Raises:
            SourceError: A column is missing or duplicate, a value does not fit its declared type, or the
                `known_at` column does not hold times.
        """
        self.wanted(rows.column_names, where)
        if not self.declared:
            return self._plain(rows, where)
        arrays = []
        for name, kind in self.declared.items():
            try:
                arrays.append(cast_column(rows[name], kind, spelled))
            except CastError as error:
                row = None if error.row is None else error.row + first_row
                raise self.wrong_value(name, row, error.what, where) from None
        return pa.table(arrays, schema=self.schema)

    def _plain(self, rows: pa.Table, where: str) -> pa.Table:
        try:
            # Arrow does not check that a file's texts are UTF-8.
            rows.validate(full=True)
            plain = rows.cast(pa.schema([(field.name, plain_type(field.type)) for field in rows.schema]))
        except pa.ArrowException as error:
            raise SourceError(
                f"{where} of source {self.source} has a column with a type that cannot be read, or with "
                "texts that are not UTF-8",
                remedy="Declare the source's columns in defs.yaml without it, or deliver it again",
            ) from error
        if self.known_at is None or not rows.column_names:
            return plain
        if self.known_at not in plain.column_names:
            raise self.missing_column(self.known_at, where)
        kind = plain[self.known_at].type
        if not pa.types.is_timestamp(kind):
            raise SourceError(
                f"{where} of source {self.source}: column {self.known_at}, declared as known_at, is {kind}, "
                "not a timestamp",
                remedy="Deliver it as timestamps, or declare it as a timestamp among the source's columns",
            )
        return plain

    def missing_column(self, name: str, where: str) -> SourceError:
        """Return the error for a missing declared column."""
        return SourceError(
            f"{where} of source {self.source} has no column {name}, which is declared",
            remedy="Deliver it with this column, or correct the source in defs.yaml",
        )

    def wrong_value(self, name: str, row: int | None, what: str, where: str) -> SourceError:
        """Return the error for a value that does not fit its column."""
        place = "" if row is None else f", row {row}"
        return SourceError(
            f"{where} of source {self.source}, column {name}{place}: {what}",
            remedy="Deliver it again, or correct the column's type in defs.yaml",
        )
