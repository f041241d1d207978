"""Reads a model's sources for partitions, as they were known when each partition began."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Self

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import ModelInputs, Source
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.sources.partition_readings import (
    FindFiles,
    OpenTexts,
    PiecesReading,
    ReaderReading,
)
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_files import file_batches
from sagemaker_scripts.sources.source_objects import (
    SourceFile,
    SourceFiles,
    SourceObject,
    SourceRead,
    objects_below,
)
from sagemaker_scripts.sources.source_paths import fixed_prefix, key_pattern
from sagemaker_scripts.sources.source_pieces import SourceStream


class PartitionSources(NamedTuple):
    """The sources of one partition.

    Attributes:
        tables: The rows known when the partition began, by the source's name.
        reads: The records of what was read.
    """

    tables: dict[str, pa.Table]
    reads: list[SourceRead]


class SourceTables:
    """Reads a model's sources for partitions in their order; data that histories share is read once.

    Use it as a context manager, which closes its connections.

    Args:
        inputs: The model's inputs.
        store: The data bucket.
        last: The last partition to be read. Rows that became known later are not read.
        secret_text: Returns a secret's document by its name.
        storage_options: The options of deltalake for S3.
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
            partition: The partition; no later one may have been read.
            names: The sources to read; None for all.

        Raises:
            SourceError: A source has no data for the partition, or does not match its declaration.
        """
        found = PartitionSources({}, [])
        for name in self._readings if names is None else names:
            table, reads = self._readings[name].read(Partition(partition))
            found.tables[name] = table
            found.reads.extend(reads)
        return found

    def stream(self, name: str, partition: str, reads: list[SourceRead]) -> Iterator[pa.Table]:
        """Yield the partition's own rows that were known when it began; errors as in `read`.

        Args:
            name: The source's name.
            partition: The partition.
            reads: Receives the records of what was read, after all batches.

        Returns:
            Batches; the first has the columns. Rows of other partitions are included if there is a column
            `partition`.
        """
        return self._readings[name].stream(Partition(partition), reads)

    def files(self, name: str, partition: str) -> SourceFiles | None:
        """Return the Parquet files with the rows of `stream`.

        Returns:
            None if the source has other files, or no data for the partition.
        """
        return self._readings[name].files(Partition(partition))

    def _reading(self, source: Source) -> PiecesReading | ReaderReading:
        columns = SourceColumns.of(source, self._last.start)
        store = self._store
        if source.bucket is not None:
            store = store.with_bucket(source.bucket)
        if source.format == "reader":
            return ReaderReading(source, columns, store)
        if source.format == "snowflake":
            values = tuple(value for _, value in source.parameters)
            return PiecesReading(source, columns, values, self._answers_of(source, columns))
        find_files: FindFiles | None = None
        if source.format == "delta":
            opened = partial(_table_of, columns, store, self._storage_options)
            find_files = partial(_files_of_table, columns, store, self._storage_options)
        else:
            opened = partial(_opened_files, source, columns, store)
            if source.format == "parquet":
                find_files = partial(_files_of, source, store)
        return PiecesReading(source, columns, (source.path,), opened, find_files, store.bucket)

    def _answers_of(self, source: Source, columns: SourceColumns) -> OpenTexts:
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
    # This import takes half a second, and only models with such a source need it.
    from sagemaker_scripts.sources.delta_source import delta_batches  # noqa: PLC0415

    (path,) = texts
    if found := delta_batches(store, path, columns, storage_options):
        batches, read = found
        yield SourceStream(batches, [read], f"s3://{store.bucket}/{path}")


def _files_of_table(
    columns: SourceColumns, store: ObjectStore, storage_options: dict[str, str], texts: tuple[str, ...]
) -> SourceFiles | None:
    from sagemaker_scripts.sources.delta_source import delta_files  # noqa: PLC0415

    return delta_files(store, texts[0], columns, storage_options)


def _opened_files(
    source: Source, columns: SourceColumns, store: ObjectStore, texts: tuple[str, ...]
) -> Iterator[SourceStream]:
    for found in _objects_of(store, *texts):
        batches = file_batches(store, found, source.format, columns)
        yield SourceStream(batches, [found.as_read(source.name)], found.address)


def _files_of(source: Source, store: ObjectStore, texts: tuple[str, ...]) -> SourceFiles:
    found = _objects_of(store, *texts)
    return SourceFiles(
        [SourceFile(each) for each in found], None, [each.as_read(source.name) for each in found]
    )


def _objects_of(store: ObjectStore, path: str) -> list[SourceObject]:
    pattern = key_pattern(path)
    return [each for each in objects_below(store, fixed_prefix(path)) if pattern.fullmatch(each.key)]
