"""A platform whose every store answers what somebody else wrote: texts and documents are the test's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import ClientError

from mlpipe_dagster.cli.access import Access, WarehouseUnreachableError
from mlpipe_dagster.data_bucket import DataBucket
from prediction_contract.errors import RegistryUnavailableError
from prediction_contract.registry.publication_rules import Release
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LoadState,
    PublicationEntry,
    ReleaseState,
)
from prediction_contract.s3_layout import done_key

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "tides"
BATCH = "20130201T060000Z-0123abcd"
LATER = "20130202T060000Z-0123abcd"


@dataclass
class ForeignStores:
    """What the stores answer.

    Attributes:
        text: Stands in every free text of the registry and of errors.
        document: Every object of the bucket, for its key.
    """

    text: str
    document: Callable[[str], bytes] = field(default=lambda _key: b"{}")

    def batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return a loaded batch's record."""
        return BatchRecord(
            model=model,
            batch_id=batch_id,
            partition="2013-02-01",
            load_state=LoadState.VERIFIED,
            release_state=ReleaseState.UNPUBLISHED,
            manifest_key=done_key(model, batch_id),
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

    def batches(self, model: str) -> list[BatchRecord]:
        """Return two batches' records."""
        return [self.batch(model, batch_id) for batch_id in (BATCH, LATER)]

    def publications(self, model: str) -> list[PublicationEntry]:
        """Return one publication."""
        return [
            PublicationEntry(
                model=model,
                sequence=1,
                action="publish",
                batch_id=BATCH,
                partition="2013-02-01",
                request_id=self.text,
                actor=self.text,
                reason=self.text,
                published_at="2026-11-23T01:02:03Z",
            )
        ]

    def release(self, model: str, *, home_region: str, **_more: Any) -> Release:
        """Return that one batch is live at home."""
        pointer = LivePointer(model=model, batch_id=BATCH, partition="2013-02-01", sequence=1)
        return Release(home_region=home_region, home=pointer, regions={}, highest_projected=0)

    def pointer(self, model: str, region: str) -> LivePointer | None:
        """Return home's pointer."""
        return self.release(model, home_region=region).home

    def carry_out(self, _decide: object) -> NoReturn:
        """Refuse a change."""
        raise RegistryUnavailableError(self.text, remedy=self.text)

    def read(self, key: str, **_more: Any) -> bytes:
        """Return an object."""
        return self.document(key)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803  # boto3's names
        """Answer with an object."""
        return {"Body": io.BytesIO(self.document(Key))}


class _Refusing:
    """A client of any service, each of whose calls is refused in the stores' words."""

    class exceptions:  # noqa: N801  # boto3's name
        """Errors that no call here raises."""

        class ResourceNotFoundException(Exception):  # noqa: N818
            """No table."""

        class EntityNotFoundException(Exception):  # noqa: N818
            """No job."""

        class NoSuchKey(Exception):  # noqa: N818
            """No object."""

        ClientError = ClientError

    def __init__(self, stores: ForeignStores) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        def refuse(*_named: Any, **_given: Any) -> NoReturn:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": self._stores.text}}, name)

        return refuse


class _Reading(_Refusing):
    """An S3 client that gives objects and refuses all else."""

    def get_object(self, **named: Any) -> dict[str, Any]:
        """Answer with an object."""
        return self._stores.get_object(**named)


class ForeignAccess(Access):
    """A deployment whose stores answer as they like.

    Args:
        definitions: The folder of the declared models.
        stores: Their answers.
    """

    def __init__(self, definitions: Path, stores: ForeignStores) -> None:
        super().__init__(definitions)
        self._stores = stores

    @property
    def registry(self) -> Any:
        """The registry."""
        return self._stores

    @property
    def bucket(self) -> DataBucket:
        """The bucket, read through the real code."""
        return DataBucket(_Reading(self._stores), "bucket")

    def client(self, service: str) -> Any:  # noqa: ARG002
        """Return a client that is refused everything."""
        return _Refusing(self._stores)

    @contextmanager
    def warehouse(self) -> Iterator[Any]:
        """Open no session."""
        raise WarehouseUnreachableError(self._stores.text, remedy=self._stores.text)
        yield
