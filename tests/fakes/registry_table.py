"""An in-memory registry table that applies transactions like DynamoDB: all conditions are checked first."""

from __future__ import annotations

from prediction_contract.registry.records import BatchRecord, LivePointer, RecordKey, batch_key, pointer_key
from prediction_contract.registry.stored_record import Attributes, Value
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.registry.version_records import (
    ChampionPointer,
    ModelVersion,
    champion_key,
    version_key,
)


class FakeRegistryTable:
    """Holds records by key and skips the conditions named in `disabled`, to simulate a missing rule."""

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self.records: dict[RecordKey, dict[str, Value]] = {}
        self._parsed: dict[RecordKey, BatchRecord] = {}
        self.disabled = disabled

    def apply(self, rule: str, transaction: Transaction) -> str | None:
        """Apply a transaction and return None, or return the name of the condition that failed."""
        keys = [write.key for write in transaction.writes]
        assert len(keys) == len(set(keys)), f"DynamoDB refuses two actions on one item: {keys}"
        for write in transaction.writes:
            attributes = self.records.get(write.key, {})
            for condition in write.conditions:
                if f"{rule}.{condition.name}" in self.disabled:
                    continue
                if not condition.clause.holds(attributes):
                    return condition.name
        for write in transaction.writes:
            if write.assign or write.remove or write.add:
                self.records[write.key] = _applied(write, self.records.get(write.key, {}))
                self._parsed.pop(write.key, None)
        return None

    def read(self, key: RecordKey) -> Attributes:
        """Return a record's attributes, empty if the record does not exist."""
        return self.records.get(key, {})

    def batch(self, model: str, batch_id: str) -> BatchRecord | None:
        """Return a batch's record, or None."""
        key = batch_key(model, batch_id)
        if key not in self.records:
            return None
        # Parsing takes most of the time of a long history, so records are cached.
        if key not in self._parsed:
            self._parsed[key] = BatchRecord.from_attributes(self.records[key])
        return self._parsed[key]

    def pointer(self, model: str, region: str) -> LivePointer | None:
        """Return a region's live pointer, or None."""
        attributes = self.read(pointer_key(model, region))
        return LivePointer.from_attributes(attributes) if attributes else None

    def champion(self, model: str) -> ChampionPointer | None:
        """Return a model's champion pointer, or None."""
        attributes = self.read(champion_key(model))
        return ChampionPointer.from_attributes(attributes) if attributes else None

    def model_version(self, model: str, version: int) -> ModelVersion | None:
        """Return the record of a model version, or None."""
        attributes = self.read(version_key(model, version))
        return ModelVersion.from_attributes(attributes) if attributes else None


def _applied(write: Write, attributes: Attributes) -> dict[str, Value]:
    """Return a record's attributes after a write."""
    after = {name: value for name, value in attributes.items() if name not in write.remove}
    after |= dict(write.assign)
    for name, members in write.add.items():
        present = after.get(name, frozenset())
        after[name] = (present if isinstance(present, frozenset) else frozenset()) | members
    return write.key.attributes() | after
