"""Reads predictions of published batches. Only a strongly consistent read decides that one is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prediction_contract.stores.online_item import BATCH_ATTRIBUTE, KEY_ATTRIBUTE, DamagedItemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api_lambda.store.item_reader import ItemReader
    from api_lambda.store.live_batch import LiveBatch
    from prediction_contract.naming.resource_names import Deployment
    from prediction_contract.stores.online_item import StoredPrediction


class UnknownEntityError(Exception):
    """The live batch has no prediction for the entity."""


class OnlineStore:
    """Reads the online tables of one region."""

    def __init__(self, reader: ItemReader, deployment: Deployment) -> None:
        self._reader = reader
        self._deployment = deployment

    def prediction(self, live: LiveBatch, entity_id: str, until: float) -> StoredPrediction:
        """Return an entity's prediction in a batch.

        Args:
            live: The batch.
            entity_id: The entity.
            until: The deadline, by `time.monotonic`.

        Raises:
            UnknownEntityError: The batch has no prediction for the entity.
            DamagedItemError: The item's checksum does not match.
            StoreUnavailableError: DynamoDB gave no answer in time.
            StoreRefusedError: DynamoDB refused the request.
        """
        table = self._deployment.online_table(live.model)
        key = {KEY_ATTRIBUTE: entity_id, BATCH_ATTRIBUTE: live.batch_id}
        item = self._reader.get_item(table, key, consistent=False, until=until)
        if item is None:
            # An eventually consistent read may miss a recent write.
            item = self._reader.get_item(table, key, consistent=True, until=until)
        if item is None:
            raise UnknownEntityError
        return _read(live, item)

    def predictions(
        self, live: LiveBatch, entity_ids: Iterable[str], until: float
    ) -> dict[str, StoredPrediction]:
        """Return a batch's predictions for up to 100 entities, by entity; missing ones are left out.

        Raises the errors of `prediction`, except `UnknownEntityError`.
        """
        keys = {entity_id: (entity_id, live.batch_id) for entity_id in entity_ids}
        items = self._items(live.model, list(keys.values()), until)
        return {entity_id: _read(live, items[key]) for entity_id, key in keys.items() if key in items}

    def predictions_of(
        self, batches: Iterable[LiveBatch], entity_id: str, until: float
    ) -> dict[str, StoredPrediction]:
        """Return one entity's predictions in up to 100 batches, by batch id; missing ones are left out."""
        by_id = {batch.batch_id: batch for batch in batches}
        model = next((batch.model for batch in by_id.values()), "")
        items = self._items(model, [(entity_id, batch_id) for batch_id in by_id], until)
        return {batch_id: _read(by_id[batch_id], item) for (_, batch_id), item in items.items()}

    def _items(
        self, model: str, keys: list[tuple[str, str]], until: float
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return those of the items that exist."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for consistent in (False, True):
            # An eventually consistent read may miss a recent write.
            missing = [key for key in keys if key not in found]
            if missing:
                names = [{KEY_ATTRIBUTE: entity, BATCH_ATTRIBUTE: batch} for entity, batch in missing]
                table = self._deployment.online_table(model)
                for item in self._reader.batch_get(table, names, consistent=consistent, until=until):
                    found[item[KEY_ATTRIBUTE]["S"], item[BATCH_ATTRIBUTE]["S"]] = item
        return found


def _read(live: LiveBatch, item: dict[str, Any]) -> StoredPrediction:
    stored = live.items.read(item)
    if not stored.is_intact:
        raise DamagedItemError(
            "An item of a published batch does not have the checksum it was written with",
            remedy="Load the batch again, or roll back",
            model=live.model,
            batch_id=live.batch_id,
        )
    return stored
