"""Finds entities with several rows of features, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.rows.key_digests import KeyDigests, key_digest
from sagemaker_scripts.features.feature_files import FeatureFile
from sagemaker_scripts.features.source_rows import SourceRows
from sagemaker_scripts.functions.entity_rows import ENTITY, NAMED_KEYS, duplicate_entities_error, quoted_key

_MAX_DUPLICATES = 1000


class EntityKeys:
    """Collects the entities of rows as digests on disk; use it as a context manager.

    Args:
        rows: A description of the rows, for errors.
    """

    def __init__(self, rows: SourceRows) -> None:
        self._rows = rows
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="entities-")))
        (self._folder / "digests").mkdir()
        self._digests = KeyDigests(self._folder / "digests")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def add(self, features: pa.Table) -> None:
        """Add the entities of features."""
        self._digests.add(b"".join(map(key_digest, features[ENTITY].to_pylist())))

    def refuse_duplicates(self, store: ObjectStore, files: Iterable[FeatureFile]) -> None:
        """Refuse several rows of the same entity.

        Args:
            store: The data bucket.
            files: The files of all added rows; they are read again to name some of the entities.

        Raises:
            EntityRowsError: An entity has several rows.
        """
        duplicates = self._digests.duplicates(_MAX_DUPLICATES)
        if not duplicates:
            return
        named: dict[str, None] = {}
        for file in files:
            local = file.fetched(store, self._folder)
            for batch in local.batches():
                keys = (key for key in batch[ENTITY].to_pylist() if key_digest(key) in duplicates)
                named.update(dict.fromkeys(keys))
                if len(named) >= min(NAMED_KEYS, len(duplicates)):
                    raise self._error(list(named)[:NAMED_KEYS], len(duplicates))
            local.path.unlink()

    def _error(self, named: list[str], count: int) -> Exception:
        rows, more = self._rows, count - len(named)
        least = "at least " if count == _MAX_DUPLICATES else ""
        return duplicate_entities_error(
            rows.who,
            rows.partition,
            map(quoted_key, named),
            f" and {least}{more} more" if more else "",
            rows.model,
        )
