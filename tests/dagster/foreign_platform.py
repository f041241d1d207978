"""A platform whose stores return texts and documents that the test chooses."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import ClientError

from mlpipe_dagster.cli.deployment_access import DeploymentAccess, WarehouseUnreachableError
from model_declaration.project import Project
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LoadState,
    PublicationEntry,
    batch_key,
    pointer_key,
    publication_key,
)
from prediction_contract.registry.stored_record import encode_value

if TYPE_CHECKING:
    pass

MODEL = "tides"
BATCH = "20130201T060000Z-0123abcd"
LATER = "20130202T060000Z-0123abcd"
HOME = "us-east-1"


@dataclass
class ForeignStores:
    """The answers of the stores.

    Attributes:
        text: Used as every free text of the registry and of errors.
        document: Returns the content of a bucket's object for its key.
    """

    text: str
    document: Callable[[str], bytes] = field(default=lambda _key: b"{}")

    def items(self) -> dict[str, dict[str, Any]]:
        """Return the registry's items by sort key: two batches, the live pointer and its publication."""
        records = {
            batch_key(MODEL, batch_id).record: BatchRecord(
                model=MODEL,
                batch_id=batch_id,
                partition="2013-02-01",
                load_state=LoadState.VERIFIED,
                manifest_key=done_key(MODEL, batch_id),
                manifest_digest="a" * 64,
                row_count=3,
                accepted_rows=3,
                checksum="6",
                load_attempts=1,
                claim_token=self.text,
                claim_job_run_id=self.text,
                refusal_reason=self.text,
                check_faults=self.text,
            )
            for batch_id in (BATCH, LATER)
        }
        pointer = LivePointer(model=MODEL, batch_id=BATCH, partition="2013-02-01", sequence=1)
        entry = PublicationEntry(
            model=MODEL,
            sequence=1,
            action="publish",
            batch_id=BATCH,
            partition="2013-02-01",
            request_id=self.text,
            actor=self.text,
            reason=self.text,
            published_at="2026-11-23T01:02:03Z",
        )
        found = {
            **records,
            pointer_key(MODEL, HOME).record: pointer,
            publication_key(MODEL, 1).record: entry,
        }
        return {key: _item(record) for key, record in found.items()}

    def refuse(self, operation: str) -> NoReturn:
        """Raise an AWS error with the stores' text."""
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": self.text}}, operation)


def _item(record: Any) -> dict[str, Any]:
    members = {each.name: getattr(record, each.name) for each in fields(record)}
    present = {name: value for name, value in members.items() if value not in (None, frozenset())}
    return {name: encode_value(value) for name, value in present.items()}


class _Client:
    """A boto3 client that returns what the stores hold and refuses every other call."""

    class exceptions:  # noqa: N801  # boto3's name
        """The client's error classes."""

        class ResourceNotFoundException(Exception):  # noqa: N818
            """The table does not exist."""

        class EntityNotFoundException(Exception):  # noqa: N818
            """The job does not exist."""

        class NoSuchKey(Exception):  # noqa: N818
            """The object does not exist."""

        class TransactionCanceledException(Exception):  # noqa: N818
            """A condition of the transaction is not met."""

        ClientError = ClientError

    def __init__(self, stores: ForeignStores) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return lambda *_named, **_given: self._stores.refuse(name)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803  # boto3's names
        """Return an object."""
        return {"Body": io.BytesIO(self._stores.document(Key))}

    def get_item(self, *, Key: dict[str, Any], **_given: Any) -> dict[str, Any]:  # noqa: N803
        """Return a record."""
        found = self._stores.items().get(Key["record"]["S"])
        return {"Item": found} if found else {}

    def transact_get_items(self, *, TransactItems: list[Any]) -> dict[str, Any]:  # noqa: N803
        """Return several records."""
        return {"Responses": [self.get_item(Key=each["Get"]["Key"]) for each in TransactItems]}

    def get_paginator(self, operation: str) -> Any:
        """Return the paginator of queries, and refuse any other."""
        if operation != "query":
            self._stores.refuse(operation)
        return self

    def paginate(
        self,
        *,
        ExpressionAttributeValues: dict[str, Any],  # noqa: N803
        ScanIndexForward: bool = True,  # noqa: N803
        **_given: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield the records between two keys as one page."""
        first, last = (ExpressionAttributeValues[name]["S"] for name in (":first", ":last"))
        found = [item for key, item in sorted(self._stores.items().items()) if first <= key <= last]
        yield {"Items": found if ScanIndexForward else found[::-1]}


class ForeignAccess(DeploymentAccess):
    """A deployment with foreign answers; all code above the boto3 clients is real.

    Args:
        project: The project of the models.
        stores: The stores' answers.
    """

    def __init__(self, project: Project, stores: ForeignStores) -> None:
        super().__init__(project)
        self._stores = stores

    def client(self, service: str) -> Any:  # noqa: ARG002
        """Return a client for any service."""
        return _Client(self._stores)

    @contextmanager
    def warehouse(self) -> Iterator[Any]:
        """Fail to open a session."""
        raise WarehouseUnreachableError(self._stores.text, remedy=self._stores.text)
        yield
