"""The sources of a model, partition by partition: what was known of each when the partition began."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import ModelInputs, Source
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.sources.known_rows import known_rows, refuse_later_rows
from sagemaker_scripts.sources.project_reader import PARTITION, ProjectReader
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_files import file_batches
from sagemaker_scripts.sources.source_objects import (
    SourceError,
    SourceMissingError,
    SourceRead,
    objects_below,
)
from sagemaker_scripts.sources.source_paths import filled, fixed_prefix, key_pattern, names_partition

_LOG = logging.getLogger(__name__)


class PartitionSources(NamedTuple):
    """The sources of one partition.

    Attributes:
        tables: By name, what was known when the partition began.
        reads: What was read for them.
    """

    tables: dict[str, pa.Table]
    reads: list[SourceRead]


class SourceStream(NamedTuple):
    """What is read of a source for one filled path or query, or for one of its files.

    Attributes:
        batches: Its rows; the first batch has the columns and no rows.
        reads: What was read, once the batches are.
        where: A name of it, for errors.
    """

    batches: Iterator[pa.Table]
    reads: list[SourceRead]
    where: str


class _Piece(NamedTuple):
    """What was read of a source for one filled path or query.

    Attributes:
        rows: All of it.
        reads: What was read.
        where: A name of it, for errors.
    """

    rows: pa.Table
    reads: list[SourceRead]
    where: str


# Opens what a partition's filled texts give; nothing if there is nothing.
_Open = Callable[[tuple[str, ...]], Iterator[SourceStream]]


class SourceTables:
    """The sources of a model over consecutive partitions; what their histories share is read once.

    Use it as a context, which ends the connections that it has opened.

    Args:
        inputs: The model's.
        store: The data bucket.
        last: The last partition that will be asked for. No row that became known later is read.
        secret_text: Returns a secret's document by its name.
        storage_options: How deltalake reaches S3.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        store: ObjectStore,
        *,
        last: str,
        secret_text: Callable[[str], str],
        storage_options: Mapping[str, str],
    ) -> None:
        self._store = store
        self._last = Partition(last)
        self._secret_text = secret_text
        self._storage_options = dict(storage_options)
        self._ends = ExitStack()
        self._connections: dict[str, Any] = {}
        self._readings = {source.name: self._reading(source) for source in inputs.sources}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def read(self, partition: str, names: Collection[str] | None = None) -> PartitionSources:
        """Return the sources of a partition, each as a table.

        Args:
            partition: Not before the one that was asked for last.
            names: Those to read; None for all.

        Raises:
            SourceError: A source has nothing for the partition, or holds something else than is declared.
        """
        found = PartitionSources({}, [])
        for name in self._readings if names is None else names:
            table, reads = self._readings[name].read(Partition(partition))
            found.tables[name] = table
            found.reads.extend(reads)
        return found

    def _reading(self, source: Source) -> _PiecesReading | _ReaderReading:
        columns = SourceColumns.of(source, self._last.start)
        store = self._store
        if source.bucket is not None:
            store = store.beside(source.bucket)
        if source.format == "reader":
            return _ReaderReading(source, columns, store)
        if source.format == "snowflake":
            values = tuple(value for _, value in source.parameters)
            return _PiecesReading(source, columns, values, self._answers_of(source, columns))
        if source.format == "delta":
            opened = partial(_table_of, columns, store, self._storage_options)
        else:
            opened = partial(_files_of, source, columns, store)
        return _PiecesReading(source, columns, (source.path,), opened, store.bucket)

    def _answers_of(self, source: Source, columns: SourceColumns) -> _Open:
        from sagemaker_scripts.sources.snowflake_source import connected, query_batches  # noqa: PLC0415

        def opened(texts: tuple[str, ...]) -> Iterator[SourceStream]:
            secret = str(source.secret)
            if secret not in self._connections:
                connection = connected(secret, self._secret_text(secret))
                self._connections[secret] = self._ends.enter_context(connection)
            parameters = dict(zip((name for name, _ in source.parameters), texts, strict=True))
            reads: list[SourceRead] = []
            batches = query_batches(self._connections[secret], source.query, parameters, columns, reads)
            yield SourceStream(batches, reads, f"The answer of the query of source {source.name}")

        return opened


def _table_of(
    columns: SourceColumns, store: ObjectStore, storage_options: dict[str, str], texts: tuple[str, ...]
) -> Iterator[SourceStream]:
    # Costs half a second, and only a model with such a source needs it.
    from sagemaker_scripts.sources.delta_source import delta_batches  # noqa: PLC0415

    (path,) = texts
    if found := delta_batches(store, path, columns, storage_options):
        batches, read = found
        yield SourceStream(batches, [read], f"s3://{store.bucket}/{path}")


def _files_of(
    source: Source, columns: SourceColumns, store: ObjectStore, texts: tuple[str, ...]
) -> Iterator[SourceStream]:
    (path,) = texts
    pattern = key_pattern(path)
    for found in objects_below(store, fixed_prefix(path)):
        if pattern.fullmatch(found.key):
            batches = file_batches(store, found, source.format, columns)
            yield SourceStream(batches, [found.as_read(source.name)], found.address)


@dataclass
class _PiecesReading:
    """A source that is read by texts with placeholders: each filled text once, while a history needs it."""

    source: Source
    columns: SourceColumns
    texts: tuple[str, ...]
    open_texts: _Open
    bucket: str = ""

    def __post_init__(self) -> None:
        self._held: dict[tuple[str, ...], _Piece | None] = {}

    def read(self, partition: Partition) -> tuple[pa.Table, list[SourceRead]]:
        """Return what was known of the source when the partition began, and what was read."""
        own = self._filled(partition)
        # The path of a day is that of all its hours, and a path without placeholders that of all partitions.
        window = {
            self._filled(each): each
            for each in (*(partition.earlier(back) for back in range(self.source.history, 0, -1)), partition)
        }
        names_it = names_partition(self.texts, partition)
        # Partitions come in their order, and no later one needs what has left the window: it goes before
        # more is read.
        self._held = {texts: self._held[texts] for texts in window if texts in self._held}
        for texts, each in window.items():
            if texts not in self._held:
                piece = self._read(texts)
                self._held[texts] = piece and (_with_partition(piece, each) if names_it else piece)
        if self._held[own] is None:
            raise self._nothing_for(partition)
        pieces = [piece for texts in window if (piece := self._held[texts]) is not None]
        limit = self.columns.known_at
        known = [
            _Piece(known_rows(piece.rows, limit, partition.start), piece.reads, piece.where)
            for piece in pieces
        ]
        late = sum(piece.rows.num_rows for piece in pieces) - sum(piece.rows.num_rows for piece in known)
        if late:
            _LOG.info(
                "%s: %d rows of %s became known later and are left out", partition, late, self.source.name
            )
        return _joined(known, self.source.name), [read for piece in pieces for read in piece.reads]

    def _read(self, texts: tuple[str, ...]) -> _Piece | None:
        pieces = [
            _Piece(pa.concat_tables(self._known(stream)), stream.reads, stream.where)
            for stream in self.open_texts(texts)
        ]
        if not pieces:
            return None
        reads = [read for piece in pieces for read in piece.reads]
        return _Piece(_joined(pieces, self.source.name), reads, pieces[0].where)

    def _known(self, stream: SourceStream) -> Iterator[pa.Table]:
        """Yield the batches of a stream without the rows that no partition is to be shown."""
        until, late = self.columns.until, 0
        for batch in stream.batches:
            known = batch if until is None else known_rows(batch, self.columns.known_at, until)
            late += batch.num_rows - known.num_rows
            yield known
        if late:
            _LOG.info("%s: %d rows became known too late and are left out", stream.where, late)

    def _nothing_for(self, partition: Partition) -> SourceMissingError:
        return SourceMissingError(
            f"Source {self.source.name} has nothing for {partition} at "
            f"s3://{self.bucket}/{self._filled(partition)[0]}",
            remedy="Deliver its data, then prepare the features of the partition; a file without rows "
            "says that there are none",
        )

    def _filled(self, partition: Partition) -> tuple[str, ...]:
        return tuple(filled(text, partition) for text in self.texts)


class _ReaderReading:
    """A source that a reader of the project reads."""

    def __init__(self, source: Source, columns: SourceColumns, store: ObjectStore) -> None:
        self._source = source
        self._columns = columns
        self._reader = ProjectReader(source, store)

    def read(self, partition: Partition) -> tuple[pa.Table, list[SourceRead]]:
        """Return what was known of the source when the partition began, and what was read."""
        returned, reads = self._reader.read(str(partition))
        who = f"{self._reader.name} for {partition}"
        rows = self._columns.converted(returned, f"What {self._source.reader} returned for {partition}")
        if PARTITION in returned.column_names and PARTITION not in rows.column_names:
            rows = rows.append_column(PARTITION, returned[PARTITION])
        limit = self._columns.known_at
        if not self._reader.is_point_in_time:
            return known_rows(rows, limit, partition.start), reads
        refuse_later_rows(rows, limit, partition.start, who)
        return rows, reads


def _with_partition(piece: _Piece, partition: Partition) -> _Piece:
    """Add the partition that a path names, unless the source has a column of that name."""
    if PARTITION in piece.rows.column_names:
        return piece
    values = pa.repeat(pa.scalar(str(partition), pa.large_string()), piece.rows.num_rows)
    return piece._replace(rows=piece.rows.append_column(PARTITION, values))


def _joined(pieces: list[_Piece], source: str) -> pa.Table:
    """Return the rows of all pieces; those whose columns nobody declared must have the same.

    Raises:
        SourceError: Two have other columns; the error names both.
    """
    # Of each column the first piece that says its type: where no row of a file has a value, it has none.
    typed: dict[str, _Piece] = {}
    before = None
    for piece in pieces:
        if before is None or piece.rows.schema != before:
            before = piece.rows.schema
            for name in dict.fromkeys([*pieces[0].rows.schema.names, *typed, *before.names]):
                _require_alike(name, typed.get(name, pieces[0]), piece, source)
            typed = {field.name: piece for field in before if not pa.types.is_null(field.type)} | typed
    return pa.concat_tables((piece.rows for piece in pieces), promote_options="default")


def _require_alike(name: str, first: _Piece, other: _Piece, source: str) -> None:
    schemas = (first.rows.schema, other.rows.schema)
    kinds = [each.field(name).type if name in each.names else None for each in schemas]
    if kinds[0] != kinds[1] and not any(kind is not None and pa.types.is_null(kind) for kind in kinds):
        shown = [f"has {name} as {kind}" if kind is not None else f"has no column {name}" for kind in kinds]
        raise SourceError(
            f"The files of source {source} differ: {first.where} {shown[0]}, and {other.where} {shown[1]}",
            remedy="Declare the source's columns in defs.yaml, which are then the same of all files, or "
            "deliver one of them again",
        )
