"""Reads one region's copy of the registry: pointers, batches and publications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    PublicationEntry,
    RecordKey,
    batch_key,
    pointer_key,
    publication_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from api_lambda.store.item_reader import ItemReader
    from prediction_contract.naming.resource_names import Deployment

MAX_MODELS = MAX_BATCH_READS
# How many publications are searched for a batch, and how many are read at a time.
_MAX_SEARCHED = 100
_PAGE = 25


class RegistryReader:
    """Reads one region's registry, without a cache.

    All methods take `until`, a deadline by `time.monotonic`. They raise `StoreUnavailableError` if the
    registry gives no answer in time, and `StoreRefusedError` if it refuses the request.

    Args:
        reader: Reads the region's tables.
        deployment: The deployment; its region determines the pointers.
    """

    def __init__(self, reader: ItemReader, deployment: Deployment) -> None:
        self._reader = reader
        self._deployment = deployment

    def models(self, until: float) -> list[str]:
        """Return the sorted names of all models of the deployment."""
        prefix = self._deployment.online_tables_prefix
        return [name.removeprefix(prefix) for name in self._reader.table_names(prefix, until=until)]

    def pointers(self, models: Iterable[str], until: float) -> list[LivePointer]:
        """Return the existing pointers of up to `MAX_MODELS` models, in any order."""
        keys = [pointer_key(model, self._deployment.region) for model in models]
        return [LivePointer.from_item(item) for item in self._records(keys, until)]

    def batches(self, model: str, batch_ids: Iterable[str], until: float) -> list[BatchRecord]:
        """Return the existing records of up to 100 batches of a model, in any order."""
        keys = [batch_key(model, batch_id) for batch_id in batch_ids]
        return [BatchRecord.from_item(item) for item in self._records(keys, until)]

    def publications_of(self, pointers: Iterable[LivePointer], until: float) -> list[PublicationEntry]:
        """Return the publications with the sequences of up to 100 pointers, if they exist, in any order."""
        keys = [publication_key(each.model, each.sequence) for each in pointers]
        return [PublicationEntry.from_item(item) for item in self._records(keys, until)]

    def pointer(self, model: str, until: float) -> LivePointer | None:
        """Return the model's pointer in this region."""
        item = self._record(pointer_key(model, self._deployment.region), until)
        return LivePointer.from_item(item) if item else None

    def batch(self, model: str, batch_id: str, until: float) -> BatchRecord | None:
        """Return a batch's record."""
        item = self._record(batch_key(model, batch_id), until)
        return BatchRecord.from_item(item) if item else None

    def publication(self, model: str, sequence: int, until: float) -> PublicationEntry | None:
        """Return one publication."""
        item = self._record(publication_key(model, sequence), until)
        return PublicationEntry.from_item(item) if item else None

    def publications_up_to(self, model: str, last: int, most: int, until: float) -> list[PublicationEntry]:
        """Return at most `most` publications up to a sequence, newest first."""
        if last < 1:
            return []
        first, highest = publication_key(model, 1), publication_key(model, last)
        items = self._reader.query_backwards(
            self._deployment.registry_table, _attributes(first), highest.record, most=most, until=until
        )
        return [PublicationEntry.from_item(item) for item in items]

    def pages_up_to(self, model: str, last: int, until: float) -> Iterator[list[PublicationEntry]]:
        """Yield pages of the publications up to a sequence, newest first, at most 100 publications in all."""
        for _ in range(_MAX_SEARCHED // _PAGE):
            page = self.publications_up_to(model, last, _PAGE, until)
            yield page
            if len(page) < _PAGE:
                return
            last = page[-1].sequence - 1

    def _record(self, key: RecordKey, until: float) -> dict[str, Any] | None:
        table = self._deployment.registry_table
        return self._reader.get_item(table, _attributes(key), consistent=True, until=until)

    def _records(self, keys: list[RecordKey], until: float) -> list[dict[str, Any]]:
        if not keys:
            return []
        table = self._deployment.registry_table
        return self._reader.batch_get(table, [_attributes(key) for key in keys], consistent=True, until=until)


def _attributes(key: RecordKey) -> dict[str, str]:
    return {"model": key.model, "record": key.record}
