"""A project's readers: classes that read data for which there is no declared format.

    class Orders:
        point_in_time = True   # it shows only what was known when the partition began

        def read(self, partition, files):
            content = files.read(files.path(partition))
            return pandas.read_json(content)

One instance reads all partitions of a job in their order, so it may keep parsed data.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import Source
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.sources.source_objects import (
    SourceError,
    SourceMissingError,
    SourceObject,
    SourceRead,
    find_object,
    objects_below,
)
from sagemaker_scripts.sources.source_paths import filled
from sagemaker_scripts.tables.returned_tables import returned_table

PARTITION = "partition"
_LONGEST_WORDS = 500


class ReaderError(SourceError):
    """A project's reader is missing or invalid, or it failed."""


@dataclass
class ReaderFiles:
    """A reader's access to objects; records each object that is read.

    Attributes:
        source: The declared source.
        store: The source's bucket.
    """

    source: Source
    store: ObjectStore
    _partition: str = ""
    _held: dict[str, tuple[SourceObject, bytes] | None] = field(default_factory=dict)
    _asked: dict[str, None] = field(default_factory=dict)

    def read(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            SourceMissingError: The object does not exist.
        """
        content = self.find(key)
        if content is None:
            raise SourceMissingError(
                f"s3://{self.store.bucket}/{key} of source {self.source.name} does not exist",
                remedy=f"Deliver the data of {self._partition}, then prepare its features",
            )
        return content

    def find(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        self._asked[key] = None
        if key not in self._held:
            self._held[key] = find_object(self.store, key)
        found = self._held[key]
        return None if found is None else found[1]

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in order."""
        return [each.key for each in objects_below(self.store, prefix)]

    def path(self, partition: str) -> str:
        """Return the declared path, filled in for a partition."""
        return filled(self.source.path, partition)

    def earlier(self) -> list[str]:
        """Return the partitions of the history before the one being read, oldest first."""
        return [str(Partition(self._partition).earlier(back)) for back in range(self.source.history, 0, -1)]

    def begin(self, partition: str) -> None:
        """Begin a partition, and release objects that were not read for the one before."""
        self._partition = partition
        self._held = {key: found for key, found in self._held.items() if key in self._asked}
        self._asked = {}

    def recorded(self) -> list[SourceRead]:
        """Return the records of what was read for the partition, in order."""
        objects = [found[0] for key in self._asked if (found := self._held[key]) is not None]
        return [each.as_read(self.source.name) for each in objects]


class ProjectReader:
    """A project's reader, found by its name.

    Args:
        source: The declared source.
        store: The source's bucket.

    Raises:
        ReaderError: The class does not exist or cannot be instantiated, or neither `point_in_time` nor
            `known_at` tells when rows became known.
    """

    def __init__(self, source: Source, store: ObjectStore) -> None:
        self._source = source
        self._files = ReaderFiles(source, store)
        self._reader = self._guarded("cannot be created", partial(_made, source))
        if not callable(getattr(self._reader, "read", None)):
            raise self._error("has no method read(partition, files)", "Write one")
        self.is_point_in_time = getattr(self._reader, "point_in_time", False) is True
        if not self.is_point_in_time and source.known_at is None:
            raise self._error(
                "does not say when its rows became known",
                "Return only rows known when the partition began and set point_in_time = True, or declare "
                "the source's known_at, by which the platform filters the rows",
            )

    def read(self, partition: str) -> tuple[pa.Table, list[SourceRead]]:
        """Return the reader's rows for a partition, and the records of what it read.

        Raises:
            ReaderError: The reader failed.
            ReturnedTableError: The reader did not return a table.
            SourceMissingError: An object that it needs does not exist.
        """
        self._files.begin(partition)
        result = self._guarded(f"failed for {partition}", partial(self._reader.read, partition, self._files))
        return returned_table(self._wanted(result), f"{self.name} for {partition}"), self._files.recorded()

    def _wanted(self, result: Any) -> Any:
        """Drop undeclared columns before they are converted."""
        declared = {name for name, _ in self._source.columns}
        if not declared or not isinstance(result, pd.DataFrame):
            return result
        return result[[name for name in result.columns if name in declared or name == PARTITION]]

    @property
    def name(self) -> str:
        """The reader's name, with which error messages begin."""
        return f"The reader {self._source.reader} of source {self._source.name}"

    def _guarded(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ContractError:
            # Such an error already has a clear message.
            raise
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_WORDS]
            raise self._error(
                f"{what}: {words}", "Correct the reader; its traceback is in the job's log"
            ) from error

    def _error(self, what: str, remedy: str) -> ReaderError:
        return ReaderError(f"{self.name} {what}", remedy=remedy)


def _made(source: Source) -> Any:
    module, _, name = source.reader.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise ReaderError(
            f"{module} has no class {name}, which source {source.name} names as its reader",
            remedy="Write it, or correct the reader in defs.yaml",
        )
    return found()
