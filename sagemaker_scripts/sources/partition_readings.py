"""Reads a source for a partition: its own data and its history, as known when the partition began."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import Source
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.sources.known_rows import known_rows, refuse_later_rows
from sagemaker_scripts.sources.project_reader import PARTITION, ProjectReader
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceFile, SourceFiles, SourceMissingError, SourceRead
from sagemaker_scripts.sources.source_paths import filled, names_partition
from sagemaker_scripts.sources.source_pieces import SourcePiece, SourceStream, joined_pieces

_LOG = logging.getLogger(__name__)

# Opens the data for a partition's filled texts; yields nothing if there is no data.
OpenTexts = Callable[[tuple[str, ...]], Iterator[SourceStream]]
# Finds the files of a partition's filled texts; None if they cannot be read one by one.
FindFiles = Callable[[tuple[str, ...]], SourceFiles | None]


@dataclass
class PiecesReading:
    """Reads a source by its path or query parameters, filled in for each partition.

    Data that is read for one partition is kept as long as the histories of later ones include it.
    """

    source: Source
    columns: SourceColumns
    texts: tuple[str, ...]
    open_texts: OpenTexts
    find_files: FindFiles | None = None
    bucket: str = ""

    def __post_init__(self) -> None:
        self._held: dict[tuple[str, ...], SourcePiece | None] = {}

    def read(self, partition: Partition) -> tuple[pa.Table, list[SourceRead]]:
        """Return the source's rows known when the partition began, and the records of what was read."""
        own, window = self._filled(partition), self._window(partition)
        is_in_path = names_partition(self.texts, partition)
        # Partitions are read in their order, and later ones do not need data before the window. It is
        # released before more is read.
        self._held = {texts: self._held[texts] for texts in window if texts in self._held}
        for texts, each in window.items():
            if texts not in self._held:
                piece = self._read(texts)
                self._held[texts] = piece and (_with_partition(piece, each) if is_in_path else piece)
        if self._held[own] is None:
            raise self._no_data_error(partition)
        pieces = [piece for texts in window if (piece := self._held[texts]) is not None]
        limit = self.columns.known_at
        known = [
            SourcePiece(known_rows(piece.rows, limit, partition.start), piece.reads, piece.where)
            for piece in pieces
        ]
        late = sum(piece.rows.num_rows for piece in pieces) - sum(piece.rows.num_rows for piece in known)
        if late:
            _LOG.info(
                "%s: %d rows of %s became known later and are left out", partition, late, self.source.name
            )
        return joined_pieces(known, self.source.name), [read for piece in pieces for read in piece.reads]

    def stream(self, partition: Partition, reads: list[SourceRead]) -> Iterator[pa.Table]:
        """Yield the partition's own rows known when it began, in batches; the first batch has the columns.

        If the source has a column `partition`, rows of other partitions are included.

        Args:
            partition: The partition.
            reads: Receives the records of what was read, after all batches.
        """
        opened = 0
        for texts in self._own_texts(partition):
            for stream in self.open_texts(texts):
                opened += texts == self._filled(partition)
                for batch in stream.batches:
                    yield known_rows(batch, self.columns.known_at, partition.start)
                reads.extend(stream.reads)
        if not opened:
            raise self._no_data_error(partition)

    def files(self, partition: Partition) -> SourceFiles | None:
        """Return the Parquet files with the rows of `stream`; None if there are no such files."""
        if self.find_files is None:
            return None
        files: list[SourceFile] = []
        reads: list[SourceRead] = []
        found = None
        for texts in self._own_texts(partition):
            found = self.find_files(texts)
            if found is None:
                return None
            files.extend(found.files)
            reads.extend(found.reads)
        # The partition's own files come last.
        return SourceFiles(files, found.given, reads) if found and found.files else None

    def _own_texts(self, partition: Partition) -> list[tuple[str, ...]]:
        """Return the filled texts whose data has rows of the partition itself."""
        own, window = self._filled(partition), self._window(partition)
        if len(window) == 1 or not names_partition(self.texts, partition):
            return list(window)
        # The rows of a path belong to the partition in the path, unless they have a partition column.
        names = list(self.columns.declared)
        if not names and (first := next(self.open_texts(own), None)):
            names = next(first.batches).column_names
        return list(window) if PARTITION in names else [own]

    def _window(self, partition: Partition) -> dict[tuple[str, ...], Partition]:
        """Return the filled texts of the history and of the partition."""
        # All hours of a day may have the same path, and all partitions if the path has no placeholders.
        return {
            self._filled(each): each
            for each in (*(partition.earlier(back) for back in range(self.source.history, 0, -1)), partition)
        }

    def _read(self, texts: tuple[str, ...]) -> SourcePiece | None:
        pieces = [
            SourcePiece(pa.concat_tables(self._known(stream)), stream.reads, stream.where)
            for stream in self.open_texts(texts)
        ]
        if not pieces:
            return None
        reads = [read for piece in pieces for read in piece.reads]
        return SourcePiece(joined_pieces(pieces, self.source.name), reads, pieces[0].where)

    def _known(self, stream: SourceStream) -> Iterator[pa.Table]:
        """Yield the batches of a stream without rows that became known too late for every partition."""
        until, late = self.columns.until, 0
        for batch in stream.batches:
            known = batch if until is None else known_rows(batch, self.columns.known_at, until)
            late += batch.num_rows - known.num_rows
            yield known
        if late:
            _LOG.info("%s: %d rows became known later and are left out", stream.where, late)

    def _no_data_error(self, partition: Partition) -> SourceMissingError:
        return SourceMissingError(
            f"Source {self.source.name} has no data for {partition} at "
            f"s3://{self.bucket}/{self._filled(partition)[0]}",
            remedy="Deliver its data, or a file without rows if there is none, then prepare the features of "
            "the partition",
        )

    def _filled(self, partition: Partition) -> tuple[str, ...]:
        return tuple(filled(text, partition) for text in self.texts)


class ReaderReading:
    """Reads a source with the project's reader."""

    def __init__(self, source: Source, columns: SourceColumns, store: ObjectStore) -> None:
        self._source = source
        self._columns = columns
        self._reader = ProjectReader(source, store)

    def read(self, partition: Partition) -> tuple[pa.Table, list[SourceRead]]:
        """Return the source's rows known when the partition began, and the records of what was read."""
        returned, reads = self._reader.read(str(partition))
        who = f"{self._reader.name} for {partition}"
        rows = self._columns.converted(
            returned, f"The table that {self._source.reader} returned for {partition}"
        )
        if PARTITION in returned.column_names and PARTITION not in rows.column_names:
            rows = rows.append_column(PARTITION, returned[PARTITION])
        limit = self._columns.known_at
        if not self._reader.is_point_in_time:
            return known_rows(rows, limit, partition.start), reads
        refuse_later_rows(rows, limit, partition.start, who)
        return rows, reads

    def stream(self, partition: Partition, reads: list[SourceRead]) -> Iterator[pa.Table]:
        """Yield the source's rows known when the partition began, as one batch."""
        rows, read = self.read(partition)
        reads.extend(read)
        yield rows

    def files(self, _partition: Partition) -> None:
        """Return None, because a reader's rows are not in separately readable files."""


def _with_partition(piece: SourcePiece, partition: Partition) -> SourcePiece:
    """Add the partition in the path as a column, unless the source has a column of that name."""
    if PARTITION in piece.rows.column_names:
        return piece
    values = pa.repeat(pa.scalar(str(partition), pa.large_string()), piece.rows.num_rows)
    return piece._replace(rows=piece.rows.append_column(PARTITION, values))
