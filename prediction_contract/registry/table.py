"""The registry table in DynamoDB: reads records and carries out transactions.

The boto3 client is an argument, so that the contract needs no AWS library.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from prediction_contract.errors import RegistryUnavailableError, RuleViolationError
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import (
    HIGHEST_SEQUENCE,
    BatchRecord,
    LivePointer,
    LivePointers,
    PublicationEntry,
    RecordKey,
    RetentionRecord,
    batch_key,
    pointer_key,
    publication_key,
    retention_key,
)
from prediction_contract.registry.stored_record import Attributes, decode_item
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import (
    ChampionPointer,
    ModelVersion,
    PromotionEntry,
    VersionState,
    champion_key,
    version_key,
)

# No partition is scored a day before it begins, even where a clock is wrong.
_MINTING_MARGIN = timedelta(days=1)
# One page. Each of these publications may cost the read of a batch.
_NEWEST_PUBLICATIONS = 10
# These conditions fail if a record changed between its read and the write. The decision is then made again.
_OVERTAKEN = frozenset(
    {
        "attempt_is_the_next",
        "champion_is_as_seen",
        "load_state_is_as_seen",
        "manifest_is_as_seen",
        "pointer_is_as_seen",
        "version_is_as_seen",
    }
)
_PASSING_REASONS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_PASSING_ERRORS = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)


class RegistryTable:
    """The registry of one deployment, in its home region or as a region's replica.

    Args:
        client: A boto3 DynamoDB client.
        name: The table's name.
        patience_seconds: How long to retry while DynamoDB throttles or other writers are faster.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        patience_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._patience_seconds = patience_seconds
        self._sleep = sleep

    def batch(self, model: str, batch_id: str) -> BatchRecord | None:
        """Return a batch's record as of now, or None."""
        item = self._item(batch_key(model, batch_id))
        return BatchRecord.from_item(item) if item else None

    def pointer(self, model: str, region: str) -> LivePointer | None:
        """Return a region's live pointer as of now, or None."""
        item = self._item(pointer_key(model, region))
        return LivePointer.from_item(item) if item else None

    def publication(self, model: str, sequence: int) -> PublicationEntry | None:
        """Return one publication entry, or None, also for a sequence out of range."""
        if not 0 < sequence <= HIGHEST_SEQUENCE:
            return None
        item = self._item(publication_key(model, sequence))
        return PublicationEntry.from_item(item) if item else None

    def batches(
        self,
        model: str,
        *,
        minted_from: str = "",
        newest_first: bool = False,
        page_size: int | None = None,
    ) -> Iterator[BatchRecord]:
        """Yield a model's batch records in the order of their ids. Pages are read as needed.

        Args:
            model: The model's name.
            minted_from: The beginning of a batch id, for example `20130201T`. Earlier batches are not read.
            newest_first: Whether to begin with the newest batch and not with the oldest.
            page_size: The maximum number of records per request; by default as many as fit into 1 MB.
        """
        found = self._query(
            model, f"batch#{minted_from}", "batch#~", page_size=page_size, newest_first=newest_first
        )
        for item in found:
            yield BatchRecord.from_item(item)

    def batches_of(self, model: str, partition: Partition) -> Iterator[BatchRecord]:
        """Yield the batches of a partition, newest first. Only batches minted since its start are read."""
        minted_from = (partition.start - _MINTING_MARGIN).strftime("%Y%m%d")
        for record in self.batches(model, minted_from=minted_from, newest_first=True, page_size=25):
            if record.partition == partition:
                yield record

    def champion(self, model: str) -> ChampionPointer | None:
        """Return a model's champion pointer as of now, or None before the first promotion."""
        item = self._item(champion_key(model))
        return ChampionPointer.from_item(item) if item else None

    def model_version(self, model: str, version: int) -> ModelVersion | None:
        """Return the record of a model version as of now, or None."""
        item = self._item(version_key(model, version))
        return ModelVersion.from_item(item) if item else None

    def model_versions(self, model: str, *, page_size: int | None = None) -> Iterator[ModelVersion]:
        """Yield a model's versions, newest first. Pages are read as needed."""
        found = self._query(model, "version#", "version#~", page_size=page_size, newest_first=True)
        for item in found:
            yield ModelVersion.from_item(item)

    def demotion_target(self, model: str) -> ModelVersion | None:
        """Return the version that a demotion promotes by default, or None.

        It is the most recent champion that is neither withdrawn nor retired.
        """
        superseded = (
            version for version in self.model_versions(model) if version.state == VersionState.SUPERSEDED
        )
        return max(superseded, key=lambda version: version.superseded_sequence or 0, default=None)

    def promotions(self, model: str, *, page_size: int | None = None) -> Iterator[PromotionEntry]:
        """Yield the entries of the champion's history, newest first. Pages are read as needed."""
        found = self._query(model, "promotion#", "promotion#~", page_size=page_size, newest_first=True)
        for item in found:
            yield PromotionEntry.from_item(item)

    def retention(self, model: str) -> RetentionRecord:
        """Return the result of a model's last sweep, or an empty record before the first sweep."""
        item = self._item(retention_key(model))
        return RetentionRecord.from_item(item) if item else RetentionRecord(model=model)

    def publications(
        self, model: str, *, after: int = 0, up_to: int | None = None, most: int | None = None
    ) -> list[PublicationEntry]:
        """Return a model's publication entries, oldest first. Only the requested entries are read.

        Args:
            model: The model's name.
            after: Only entries with a higher sequence.
            up_to: Only entries with at most this sequence.
            most: The maximum number of entries.
        """
        first, last = _publication_range(model, after, up_to)
        items = self._query(model, first, last, page_size=most)
        return [PublicationEntry.from_item(item) for item in islice(items, most)]

    def newest_publications(
        self, model: str, *, up_to: int | None = None, page_size: int = 10
    ) -> Iterator[PublicationEntry]:
        """Yield a model's publication entries, newest first. Pages are read as needed.

        Args:
            model: The model's name.
            up_to: Only entries with at most this sequence.
            page_size: The number of entries per request.
        """
        first, last = _publication_range(model, 0, up_to)
        for item in self._query(model, first, last, page_size=page_size, newest_first=True):
            yield PublicationEntry.from_item(item)

    def rollback_target(self, model: str) -> BatchRecord | None:
        """Return the batch that a rollback makes live by default, or None.

        It is the verified batch that was superseded last. Each publication names the batch it superseded, so
        the newest publications usually suffice. Otherwise all batches that are not retired are read, for
        example after a rollback to the oldest of them.
        """
        seen: set[str] = set()
        for entry in islice(self.newest_publications(model), _NEWEST_PUBLICATIONS):
            batch_id = entry.previous_batch_id
            if batch_id is None or batch_id in seen:
                continue
            seen.add(batch_id)
            record = self.batch(model, batch_id)
            if record and record.is_rollback_target and record.superseded_sequence == entry.sequence:
                return record
        retained = self.batches(model, minted_from=self.retention(model).retained_from)
        targets = (record for record in retained if record.is_rollback_target)
        return max(targets, key=lambda record: record.superseded_sequence or 0, default=None)

    def live_pointers(
        self, model: str, *, home_region: str, regions: Iterable[str] = (), highest_projected: int = 0
    ) -> LivePointers:
        """Return the live pointers of all regions, read atomically.

        Args:
            model: The model's name.
            home_region: The region that writes.
            regions: The other serving regions.
            highest_projected: The highest sequence in Snowflake's projection, if it was read.

        Raises:
            RegistryUnavailableError: Throttling or other writers prevented the read for `patience_seconds`.
        """
        asked = [home_region, *regions]
        answer = self._read_atomically(model, [pointer_key(model, region) for region in asked])
        pointers = {
            region: LivePointer.from_item(response["Item"]) if response.get("Item") else None
            for region, response in zip(asked, answer["Responses"], strict=True)
        }
        home = pointers.pop(home_region)
        return LivePointers(
            home_region=home_region, home=home, regions=pointers, highest_projected=highest_projected
        )

    def carry_out(self, decide: Callable[[], Transaction]) -> bool:
        """Decide on a change and carry it out. If another writer was faster, decide again.

        Args:
            decide: Reads the records and returns a rule's transaction.

        Returns:
            Whether the registry changed; False if it was already as requested or the request id was known.

        Raises:
            RuleViolationError: A rule forbids the change.
            RegistryUnavailableError: Throttling or other writers prevented the change for `patience_seconds`.
        """
        patience = self._patience()
        while True:
            transaction = decide()
            if not transaction.writes:
                return False
            refusal = self._attempt(transaction)
            if refusal is None:
                return True
            if isinstance(refusal, RuleViolationError):
                if refusal.condition == "request_is_new":
                    return False
                if refusal.condition not in _OVERTAKEN:
                    raise refusal
            if not next(patience):
                raise RegistryUnavailableError(
                    f"The registry {self._name} could not be changed within "
                    f"{self._patience_seconds:.0f} s: {refusal}",
                    remedy="Run the step again, which is safe",
                    model=transaction.model,
                    batch_id=transaction.batch_id,
                ) from refusal

    def _read_atomically(self, model: str, keys: Sequence[RecordKey]) -> Mapping[str, Any]:
        """Read records atomically, and retry while DynamoDB cancels the read because one is being written."""
        items = [{"Get": {"TableName": self._name, "Key": key.item()}} for key in keys]
        patience = self._patience()
        while True:
            try:
                return self._client.transact_get_items(TransactItems=items)
            except self._client.exceptions.TransactionCanceledException as cancelled:
                codes = {reason.get("Code", "None") for reason in cancelled.response["CancellationReasons"]}
                if codes - {"None"} - _PASSING_REASONS:
                    raise
                refusal: Exception = cancelled
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in _PASSING_ERRORS:
                    raise
                refusal = error
            if not next(patience):
                raise RegistryUnavailableError(
                    f"The registry {self._name} could not be read within {self._patience_seconds:.0f} s: "
                    f"{refusal}",
                    remedy="Run the step again, which is safe",
                    model=model,
                ) from refusal

    def _patience(self) -> Iterator[bool]:
        """Wait a longer time at each step and yield True; yield False once `patience_seconds` have passed."""
        deadline, pause = time.monotonic() + self._patience_seconds, 0.05
        while time.monotonic() + pause <= deadline:
            # Full jitter, so that writers that collided do not collide again.
            self._sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
            pause = min(pause * 2, 2.0)
            yield True
        while True:
            yield False

    def _attempt(self, transaction: Transaction) -> Exception | None:
        """Send a transaction once. Return None, a temporary error or a `RuleViolationError`; raise others."""
        items = transaction.items(self._name)
        for item in items:
            for action in item.values():
                action["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            self._client.transact_write_items(TransactItems=items)
        except self._client.exceptions.TransactionCanceledException as cancelled:
            return _verdict(transaction, cancelled.response.get("CancellationReasons", []), cancelled)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _PASSING_ERRORS:
                return error
            raise
        return None

    def _item(self, key: RecordKey) -> Mapping[str, Any] | None:
        answer = self._client.get_item(TableName=self._name, Key=key.item(), ConsistentRead=True)
        return answer.get("Item")

    def _query(
        self, model: str, first: str, last: str, *, page_size: int | None = None, newest_first: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            ConsistentRead=True,
            ScanIndexForward=not newest_first,
            PaginationConfig={"PageSize": page_size},
            KeyConditionExpression="#model = :model AND #record BETWEEN :first AND :last",
            ExpressionAttributeNames={"#model": "model", "#record": "record"},
            ExpressionAttributeValues={
                ":model": {"S": model},
                ":first": {"S": first},
                # All characters after a prefix are ASCII below `~`.
                ":last": {"S": last},
            },
        )
        for page in pages:
            yield from page["Items"]


def _publication_range(model: str, after: int, up_to: int | None) -> tuple[str, str]:
    last = "publication#~" if up_to is None else publication_key(model, up_to).record
    return publication_key(model, after + 1).record, last


def _verdict(transaction: Transaction, reasons: list[Mapping[str, Any]], cancelled: Exception) -> Exception:
    """Return the rule violation behind a cancelled transaction, or the cancellation if it is temporary.

    A known request id takes precedence, because its own change may now violate the other conditions.
    """
    found: dict[RecordKey, Attributes] = {}
    failed_writes = []
    for write, reason in zip(transaction.writes, reasons, strict=True):
        code = reason.get("Code", "None")
        if code in _PASSING_REASONS:
            return cancelled
        if code == "ConditionalCheckFailed":
            found[write.key] = decode_item(reason.get("Item", {}))
            failed_writes.append(write)
        elif code != "None":
            raise cancelled
    failed_writes.sort(key=lambda write: "request#" not in write.key.record)
    failed = Transaction(transaction.model, transaction.batch_id, tuple(failed_writes))
    try:
        failed.check(found)
    except RuleViolationError as violation:
        return violation
    # The condition failed in DynamoDB but holds on the returned record, so the record has changed.
    return cancelled
