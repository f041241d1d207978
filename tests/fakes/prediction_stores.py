"""The world around the registry: batches, job runs, stores, replicas, Snowflake's projection and a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from prediction_contract.registry.manifest_rules import ManifestFacts
from prediction_contract.registry.records import BatchRecord
from prediction_contract.rows.checksums import RowTally

MODEL = "flight_delay"
HOME = "us-east-1"
FAR = "eu-west-1"
START = datetime(2013, 2, 10, tzinfo=UTC)
ITEM_LIFE = timedelta(hours=200)
RETENTION = timedelta(hours=60)
MINIMUM_LIFE = timedelta(hours=40)
RELOAD_MARGIN = timedelta(hours=50)

# Row checksums by key. If a row with checksum 0 is lost, only the count shows it; if a row is altered, only
# the checksum does. The row `bad` goes to quarantine.
_ROWS = {
    "digest-0": {"a": 0, "b": 5, "bad": 9},
    "digest-1": {"a": 0, "c": 7, "bad": 9},
}
DIGESTS = tuple(_ROWS)
QUARANTINED = RowTally(rows=1, checksum=9)
# Partition and creation time of each batch: an older day, and a later day twice. The second id of the later
# day is in the future, so that a rollback can precede it.
OLDER, FIRST, SECOND = "20130210T000000Z-aaaaaaaa", "20130210T000001Z-bbbbbbbb", "20130210T200000Z-dddddddd"
BATCHES = {OLDER: "2013-02-01", FIRST: "2013-02-02", SECOND: "2013-02-02"}


class LifeRules(TypedDict):
    """How long a publication's target must still live, and how long its predecessor is kept."""

    minimum_life: timedelta
    retention: timedelta


StoredRow = tuple[str, str, int]
"""Digest of the manifest, cleaning rules, and the row's checksum as it was stored."""


@dataclass(slots=True)
class JobRun:
    """One load job run and what it knows."""

    job_run_id: str
    token: str
    batch_id: str
    digest: str
    expire_at: datetime
    fault: str
    confirmed: bool = False
    cleaning: str | None = None
    dynamodb: RowTally | None = None
    snowflake: RowTally | None = None
    quarantined: RowTally = QUARANTINED
    reported_ended: bool = False
    finished: bool = False


@dataclass(slots=True)
class World:
    """Everything outside the registry: stores, projection, job runs and the clock."""

    now: datetime = START
    online: dict[str, dict[str, tuple[StoredRow, datetime]]] = field(default_factory=dict)
    replica: dict[str, dict[str, tuple[StoredRow, datetime]]] = field(default_factory=dict)
    warehouse: dict[str, dict[str, StoredRow]] = field(default_factory=dict)
    projected_sequence: int = 0
    projected_batch: str | None = None
    jobs: list[JobRun] = field(default_factory=list)

    def facts(self, batch_id: str, digest: str) -> ManifestFacts:
        """Return the facts in a batch's done file."""
        rows = _ROWS[digest]
        return ManifestFacts(
            model=MODEL,
            batch_id=batch_id,
            partition=BATCHES[batch_id],
            manifest_key=f"done/2013-02-10/{MODEL}/{batch_id}.json",
            manifest_digest=digest,
            row_count=len(rows),
            checksum=str(sum(rows.values())),
        )

    def write(self, job: JobRun) -> None:
        """Write a job run's rows to both stores, except those that its fault loses, alters or refuses."""
        good = {
            key: (job.digest, job.cleaning or "", checksum)
            for key, checksum in _ROWS[job.digest].items()
            if key != "bad"
        }
        if job.fault == "all-refused":
            good = {}
            job.quarantined = RowTally(rows=len(_ROWS[job.digest]), checksum=sum(_ROWS[job.digest].values()))
        online, warehouse = dict(good), dict(good)
        damaged = {"online": online, "warehouse": warehouse}.get(job.fault.split("-")[0])
        if damaged is not None:
            if job.fault.endswith("lost"):
                del damaged["a"]
            else:
                digest, cleaning, checksum = damaged["a"]
                damaged["a"] = (digest, cleaning, checksum + 1)
        stored = self.online.setdefault(job.batch_id, {})
        stored.update({key: (row, job.expire_at) for key, row in online.items()})
        # The warehouse replaces the batch in one transaction.
        self.warehouse[job.batch_id] = warehouse
        job.dynamodb, job.snowflake = _tally(online), _tally(warehouse)

    def replicate(self, batch_id: str) -> None:
        """Copy one batch from the home region's table to the replica."""
        self.replica[batch_id] = dict(self.online.get(batch_id, {}))

    def readable(self, region: str, batch_id: str) -> dict[str, StoredRow]:
        """Return the unexpired rows of a batch in a region."""
        store = self.online if region == HOME else self.replica
        return {key: row for key, (row, expire_at) in store.get(batch_id, {}).items() if expire_at > self.now}

    def is_whole(self, region: str, batch: BatchRecord) -> bool:
        """Whether readers in a region get exactly the batch's rows."""
        return self.readable(region, batch.batch_id) == expected_rows(batch.manifest_digest, batch.cleaning)


def expected_rows(digest: str, cleaning: str | None) -> dict[str, StoredRow]:
    """Return the rows that readers must get for a batch."""
    return {
        key: (digest, cleaning or "", checksum) for key, checksum in _ROWS[digest].items() if key != "bad"
    }


def _tally(rows: dict[str, StoredRow]) -> RowTally:
    return RowTally(rows=len(rows), checksum=sum(checksum for _, _, checksum in rows.values()))
