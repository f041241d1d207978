"""A platform whose every store answers what somebody else wrote: texts and documents are the test's own."""

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
    """What the stores answer.

    Attributes:
        text: Stands in every free text of the registry and of errors.
        document: Every object of the bucket, for its key.
    """

    text: str
    document: Callable[[str], bytes] = field(default=lambda _key: b"{}")

    def items(self) -> dict[str, dict[str, Any]]:
        """Return the registry's items by their sort key: two batches, the live one and its publication."""
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
        """Refuse a call of AWS in the stores' words."""
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": self.text}}, operation)


def _item(record: Any) -> dict[str, Any]:
    members = {each.name: getattr(record, each.name) for each in fields(record)}
    present = {name: value for name, value in members.items() if value not in (None, frozenset())}
    return {name: encode_value(value) for name, value in present.items()}


class _Client:
    """A boto3 client that gives what the stores hold, and is refused all else."""

    class exceptions:  # noqa: N801  # boto3's name
        """Errors that no call here raises, but for one."""

        class ResourceNotFoundException(Exception):  # noqa: N818
            """No table."""

        class EntityNotFoundException(Exception):  # noqa: N818
            """No job."""

        class NoSuchKey(Exception):  # noqa: N818
            """No object."""

        class TransactionCanceledException(Exception):  # noqa: N818
            """A condition does not hold."""

        ClientError = ClientError

    def __init__(self, stores: ForeignStores) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return lambda *_named, **_given: self._stores.refuse(name)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803  # boto3's names
        """Answer with an object."""
        return {"Body": io.BytesIO(self._stores.document(Key))}

    def get_item(self, *, Key: dict[str, Any], **_given: Any) -> dict[str, Any]:  # noqa: N803
        """Answer with a record."""
        found = self._stores.items().get(Key["record"]["S"])
        return {"Item": found} if found else {}

    def transact_get_items(self, *, TransactItems: list[Any]) -> dict[str, Any]:  # noqa: N803
        """Answer with records."""
        return {"Responses": [self.get_item(Key=each["Get"]["Key"]) for each in TransactItems]}

    def get_paginator(self, operation: str) -> Any:
        """Return what pages through a query; no listing is allowed."""
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
        """Give the records between two keys as one page."""
        first, last = (ExpressionAttributeValues[name]["S"] for name in (":first", ":last"))
        found = [item for key, item in sorted(self._stores.items().items()) if first <= key <= last]
        yield {"Items": found if ScanIndexForward else found[::-1]}


class ForeignAccess(DeploymentAccess):
    """A deployment whose stores answer as they like; all code above their clients is the real one.

    Args:
        project: Whose models they are.
        stores: Their answers.
    """

    def __init__(self, project: Project, stores: ForeignStores) -> None:
        super().__init__(project)
        self._stores = stores

    def client(self, service: str) -> Any:  # noqa: ARG002
        """Return a client of any service."""
        return _Client(self._stores)

    @contextmanager
    def warehouse(self) -> Iterator[Any]:
        """Open no session."""
        raise WarehouseUnreachableError(self._stores.text, remedy=self._stores.text)
        yield
