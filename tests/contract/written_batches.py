"""Batches as the scoring job commits them to the model's Delta table on S3."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from arro3.core import Array, DataType, Table
from deltalake import DeltaTable, write_deltalake

from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Kind
from prediction_contract.stores.delta_table import arrow_columns, check_delta_table
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prediction_contract.rows.row_contract import Row
    from prediction_contract.rows.schema import PredictionSchema


class Lake:
    """A model's Delta table in a bucket, written like the scoring job writes it."""

    def __init__(
        self, bucket: str, model: str, options: Mapping[str, str], schema: PredictionSchema = FULL_SCHEMA
    ) -> None:
        self.bucket = bucket
        self.schema = schema
        self._uri = f"s3://{bucket}/{delta_table_prefix(model).rstrip('/')}"
        self._options = dict(options)

    def write(self, batch_id: str, values: Sequence[Mapping[str, Any]]) -> Batch:
        """Commit a batch of rows with their checksums, and return its lines and files."""
        contract = row_contract(self.schema)
        lines = [prediction_line(contract, row) for row in values]
        columns = arrow_columns(self.schema)
        arrays = [
            _array(
                kind,
                [_stored(self.schema, name, line, batch_id) for line in lines],
            )
            for name, kind in columns.items()
        ]
        before = set(self._files())
        write_deltalake(
            self._uri,
            Table.from_arrays(arrays, names=list(columns)),
            mode="overwrite",
            predicate=f"batch_id = '{batch_id}'",
            storage_options=self._options,
        )
        return Batch(batch_id, lines, sorted(set(self._files()) - before))

    def check(self) -> None:
        """Check the table against the contract, like every loader."""
        table = DeltaTable(self._uri, storage_options=self._options)
        check_delta_table(
            self.schema,
            table_schema=table.schema().to_json(),
            reader_version=table.protocol().min_reader_version,
            writer_version=table.protocol().min_writer_version,
            partition_columns=table.metadata().partition_columns,
            settings=table.metadata().configuration,
        )

    def _files(self) -> list[str]:
        if not DeltaTable.is_deltatable(self._uri, storage_options=self._options):
            return []
        uris = DeltaTable(self._uri, storage_options=self._options).file_uris()
        return [uri.removeprefix(f"{self._uri}/") for uri in uris]


class Batch(NamedTuple):
    """A written batch; `cleaned` are its rows after cleaning, or None without cleaning."""

    batch_id: str
    lines: list[PredictionLine]
    files: list[str]
    cleaned: list[Row] | None = None

    @property
    def accepted(self) -> list[Row]:
        """The rows that a store can hold, without those of duplicate keys."""
        written = [line.row for line in self.lines if line.row is not None]
        rows = written if self.cleaned is None else self.cleaned
        keys = Counter(row.key for row in rows)
        return [row for row in rows if keys[row.key] == 1]

    @property
    def quarantined(self) -> list[int]:
        """The checksums of all other lines."""
        accepted = {row.checksum for row in self.accepted}
        return [line.checksum for line in self.lines if line.checksum not in accepted]


def _stored(schema: PredictionSchema, name: str, line: PredictionLine, batch_id: str) -> Any:
    """Return a line's value in a Delta column, or None if the column cannot hold it."""
    if name == "batch_id":
        return batch_id
    if name == "row_checksum":
        return line.checksum
    if line.row is None:
        return delta_values(schema, line.content).get(name)
    values = line.row.values
    kind = next(column.type.kind for column in schema.columns if column.name == name)
    return line.row.texts[list(values).index(name)] if kind is Kind.JSON else values[name]


def _array(kind: str, values: list[Any]) -> Any:
    """Return a column in the Arrow type that the contract names."""
    plain = {"string": DataType.string(), "int64": DataType.int64(), "double": DataType.float64()}
    if kind in plain:
        return Array(values, type=plain[kind])
    if kind == "bool":
        return Array(values, type=DataType.bool())
    if kind == "date32":
        days = [None if value is None else (value - date(1970, 1, 1)).days for value in values]
        return Array(days, type=DataType.int32()).cast(DataType.date32())
    if kind == "timestamp[us, tz=UTC]":
        epoch, tick = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
        ticks = [None if value is None else (value - epoch) // tick for value in values]
        return Array(ticks, type=DataType.int64()).cast(DataType.timestamp("us", tz="UTC"))
    precision, scale = map(int, kind.removeprefix("decimal128(").removesuffix(")").split(","))
    texts = [None if value is None else format(value, "f") for value in values]
    return Array(texts, type=DataType.string()).cast(DataType.decimal128(precision, scale))
