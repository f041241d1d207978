"""Tests of Delta commits on the local S3: late, concurrent and repeated commits, and changed columns."""

from __future__ import annotations

import io
import json
import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableAlterer

from prediction_batches.delivery import delta_commit
from prediction_batches.delivery.delta_commit import (
    AttemptSupersededError,
    CommittedVersion,
    DeltaCommitError,
    TableCommit,
)
from prediction_batches.files.data_files import DataFile, DataFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.stores.delta_table import check_delta_table
from tests.batches.encoded import encoded, schema_of
from tests.sagemaker.scoring_jobs import stack_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack

FIRST, SECOND = "20130201T060000Z-00000001", "20130202T060000Z-00000002"
OLD = "20130131T060000Z-00000000"
SCHEMA = schema_of(minutes="long")


class Table:
    """The Delta table of a new model without batches."""

    def __init__(self, store: ObjectStore, options: dict[str, str]) -> None:
        self.store = store
        self.options = options
        self.model = f"m{uuid.uuid4().hex}"
        self.schema = SCHEMA

    def written(self, batch_id: str, attempt: int, *shares: list[int]) -> TableCommit:
        """Write the minutes of each list as one share and return the commit for them."""
        files: list[DataFile] = []
        for number, minutes in enumerate(shares):
            location = ShareLocation(self.store, self.model, "2013-02-01", batch_id, attempt, f"s{number}")
            rows = encoded(self.schema, [{"entity_id": f"AA-{value}", "minutes": value} for value in minutes])
            with DataFiles(location, self.schema) as data:
                data.write(rows.columns, rows.checksums)
                files += data.close()
        return TableCommit(
            store=self.store,
            model=self.model,
            schema=self.schema,
            batch_id=batch_id,
            attempt=attempt,
            files=files,
            options=self.options,
        )

    def commit(self, batch_id: str, attempt: int, *minutes: int) -> CommittedVersion:
        """Write and commit rows of a batch."""
        return self.written(batch_id, attempt, list(minutes)).make(lambda: True)

    def stored(self, version: int | None = None) -> dict[str, list[int]]:
        """Return the minutes of each batch in a version, or in the head."""
        found: dict[str, list[int]] = {}
        for row in self.delta(version).to_pyarrow_table().to_pylist():
            found.setdefault(row["batch_id"], []).append(row["minutes"])
        return {batch_id: sorted(minutes) for batch_id, minutes in found.items()}

    def delta(self, version: int | None = None) -> DeltaTable:
        """Return a version of the table, or its head."""
        uri = f"s3://{self.store.bucket}/predictions/{self.model}/delta/"
        return DeltaTable(uri, version=version, storage_options=self.options)

    def log(self) -> list[dict[str, Any]]:
        """Return all actions of the log, in the order of the commits."""
        entries = self.store.listing(f"predictions/{self.model}/delta/_delta_log/")
        names = [entry.key for entry in entries if entry.key.endswith(".json")]
        return [json.loads(line) for name in names for line in self.store.get(name).splitlines()]


@pytest.fixture
def table(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Table:
    """Return the table of a model that has no batches yet."""
    store = ObjectStore(aws_client("s3"), local_stack.environment["MLPIPE_DATA_BUCKET"])
    return Table(store, storage_options(local_stack.environment) | stack_options(local_stack.environment))


def test_later_attempt_replaces_only_its_batch(table: Table) -> None:
    """The latest version has only the later attempt's rows of the batch; earlier versions stay readable."""
    other = table.commit(SECOND, 1, 7)
    early = table.commit(FIRST, 1, 1, 2)
    late = table.commit(FIRST, 2, 1, 3)
    assert other.version < early.version < late.version
    assert table.stored() == {FIRST: [1, 3], SECOND: [7]}
    assert table.stored(early.version) == {FIRST: [1, 2], SECOND: [7]}
    assert late.files == (f"{FIRST}/2/s0-00000.parquet",)


def test_shares_are_added_and_removed_in_one_commit(table: Table) -> None:
    """One commit adds all shares of an attempt and removes all those of the earlier one."""
    table.written(FIRST, 1, [1], [2, 3], [4]).make(lambda: True)
    before = table.delta().version()
    made = table.written(FIRST, 2, [5], [6]).make(lambda: True)
    assert made.version == before + 1
    assert table.stored() == {FIRST: [5, 6]}
    last = [action for action in table.log() if "add" in action or "remove" in action][-5:]
    assert [name for action in last for name in action if name in {"add", "remove"}].count("remove") == 3


def test_attempt_after_optimize_lists_only_its_files(table: Table) -> None:
    """After OPTIMIZE merged rows of several batches, a new attempt replaces only its batch."""
    table.commit(OLD, 1, 5)
    table.commit(FIRST, 1, 1, 2)
    table.commit(SECOND, 1, 7)
    table.delta().optimize.compact()
    made = table.commit(FIRST, 2, 3)
    assert table.stored() == {OLD: [5], FIRST: [3], SECOND: [7]}
    (file,) = made.files
    content = table.store.get(f"predictions/{table.model}/delta/{file}")
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [(row["batch_id"], row["minutes"]) for row in rows] == [(FIRST, 3)]


def test_files_with_encoded_names_are_removed(table: Table) -> None:
    """A file whose name is percent-encoded in the log is removed by the next attempt."""
    first = table.written(FIRST, 1, [1])
    first.make(lambda: True)
    second = table.written(FIRST, 2, [2])
    (file,) = second.files
    root = f"predictions/{table.model}/delta/"
    named = replace(file, path=f"{FIRST}/2/a name of its own.parquet")
    assert table.store.put_new(f"{root}{named.path}", table.store.get(f"{root}{file.path}"))
    replace(second, files=[named]).make(lambda: True)
    assert table.stored() == {FIRST: [2]}
    table.commit(FIRST, 3, 3)
    assert table.stored() == {FIRST: [3]}


def test_attempt_not_above_committed_one_is_refused(table: Table) -> None:
    """A lower attempt, or the same one with other files, is refused with the committed attempt's number."""
    table.commit(FIRST, 2, 1)
    for late, which in (
        (table.written(FIRST, 1, [9]), "; this is attempt 1"),
        (table.written(FIRST, 2, [1], [9]), " with other files"),
    ):
        with pytest.raises(AttemptSupersededError, match=f"Attempt 2 has already committed the batch{which}"):
            late.make(lambda: True)
    assert table.stored() == {FIRST: [1]}


def test_repeated_commit_adds_no_version(table: Table) -> None:
    """An attempt that was killed after its commit returns the same version, even after later commits."""
    commit = table.written(FIRST, 1, [1], [2])
    made = commit.make(lambda: True)
    table.commit(SECOND, 1, 7)
    table.commit(OLD, 1, 5)
    before = table.delta().version()
    assert commit.make(lambda: True) == made
    assert table.delta().version() == before


def test_checkpoint_keeps_committed_attempts(table: Table) -> None:
    """Earlier attempts are still recognised and refused after the log was checkpointed."""
    first = table.written(FIRST, 1, [1])
    made = first.make(lambda: True)
    table.commit(SECOND, 1, 7)
    table.delta().create_checkpoint()
    assert first.make(lambda: True) == made
    table.commit(FIRST, 2, 2)
    assert table.stored() == {FIRST: [2], SECOND: [7]}
    with pytest.raises(AttemptSupersededError):
        first.make(lambda: True)


def test_concurrent_commits_of_one_attempt_are_one(table: Table) -> None:
    """Concurrent commits of the same attempt return the same version."""
    commit = table.written(FIRST, 1, [1], [2])
    table.commit(SECOND, 1, 7)
    made: list[CommittedVersion] = []
    threads = [threading.Thread(target=lambda: made.append(commit.make(lambda: True))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(made) == 3
    assert len(set(made)) == 1
    assert table.stored() == {FIRST: [1, 2], SECOND: [7]}


def test_attempt_stops_if_manifest_exists(table: Table) -> None:
    """An attempt does not commit if another attempt has written the manifest meanwhile."""
    with pytest.raises(AttemptSupersededError, match="Another attempt has written the batch's manifest"):
        table.written(FIRST, 1, [1]).make(lambda: False)
    assert table.stored() == {}


def test_overtaken_attempt_does_not_commit(table: Table) -> None:
    """An attempt that was overtaken right before its commit is refused."""
    table.commit(SECOND, 1, 7)
    overtaken: list[CommittedVersion] = []

    def overtake() -> bool:
        if not overtaken:
            overtaken.append(table.commit(FIRST, 2, 2))
        return True

    with pytest.raises(AttemptSupersededError, match="Attempt 2"):
        table.written(FIRST, 1, [1]).make(overtake)
    assert len(overtaken) == 1
    assert table.stored() == {FIRST: [2], SECOND: [7]}


def test_overtaken_attempt_with_new_columns_does_not_commit(table: Table) -> None:
    """An overtaken attempt is refused even though adding its columns is a separate commit."""
    table.commit(SECOND, 1, 7)
    later = table.written(FIRST, 2, [2])
    table.schema = schema_of(minutes="long", more="long")
    overtaken: list[CommittedVersion] = []

    def overtake() -> bool:
        if not overtaken:
            overtaken.append(later.make(lambda: True))
        return True

    with pytest.raises(AttemptSupersededError, match="Attempt 2 has already committed the batch"):
        table.written(FIRST, 1, [1]).make(overtake)
    assert table.stored() == {FIRST: [2], SECOND: [7]}


def test_concurrent_batches_are_all_committed(table: Table) -> None:
    """Batches that are committed at the same time are all kept, even while the table is being created."""
    batches = [f"20130201T06000{number}Z-0000000{number}" for number in range(4)]
    made: dict[str, CommittedVersion] = {}
    threads = [
        threading.Thread(
            target=lambda batch_id=batch_id, number=number: made.update(
                {batch_id: table.commit(batch_id, 1, number)}
            )
        )
        for number, batch_id in enumerate(batches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert table.stored() == {batch_id: [number] for number, batch_id in enumerate(batches)}
    assert len({commit.version for commit in made.values()}) == len(batches)


def wide_schema(columns: int) -> PredictionSchema:
    """Return a schema with the given number of columns."""
    more = tuple(Column(f"more_{number}", ColumnType(Kind.LONG)) for number in range(columns - 2))
    return PredictionSchema((*SCHEMA.columns, *more), SCHEMA.key)


def statistics(table: Table) -> list[dict[str, Any]]:
    """Return the minimum values in the log's file statistics, in the order of the commits."""
    return [json.loads(action["add"]["stats"])["minValues"] for action in table.log() if "add" in action]


def tries_with_concurrent_commit(table: Table, monkeypatch: pytest.MonkeyPatch) -> int:
    """Commit a batch that another one overtakes, and return the number of tries."""
    tries: list[str] = []
    real = DeltaTable.create_write_transaction

    def counted(self: DeltaTable, actions: list[Any], *arguments: Any, **options: Any) -> None:
        tries.append(actions[-1].path)
        real(self, actions, *arguments, **options)

    def be_overtaken() -> bool:
        if not tries:
            table.commit(SECOND, 1, 7)
        return True

    monkeypatch.setattr(DeltaTable, "create_write_transaction", counted)
    table.written(FIRST, 1, [1]).make(be_overtaken)
    return sum(FIRST in tried for tried in tries)


@pytest.mark.parametrize("columns", [30, 32, 40])
def test_commits_to_wide_tables_do_not_conflict(
    table: Table, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """With more than 32 columns, the log still has the batch id statistics that prevent conflicts."""
    table.schema = wide_schema(columns)
    assert tries_with_concurrent_commit(table, monkeypatch) == 1
    assert table.stored() == {FIRST: [1], SECOND: [7]}
    assert statistics(table) == [{"batch_id": SECOND}, {"batch_id": FIRST}]
    table.commit(FIRST, 2, 2)
    assert table.stored() == {FIRST: [2], SECOND: [7]}


def test_old_table_gets_statistics_setting(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table without the statistics setting gets it, so commits of different batches do not conflict."""
    table.schema = wide_schema(40)
    setting = "delta.dataSkippingStatsColumns"
    with monkeypatch.context() as before:
        before.delitem(delta_commit._CONFIGURATION, setting)
        table.commit(OLD, 1, 5)
    assert setting not in table.delta().metadata().configuration
    assert tries_with_concurrent_commit(table, monkeypatch) == 1
    table.commit(OLD, 2, 6)
    assert table.stored() == {OLD: [6], FIRST: [1], SECOND: [7]}


@pytest.mark.parametrize("error", [OSError("Generic S3 error: 503 Slow Down"), CommitFailedError("conflict")])
def test_failed_setting_change_does_not_stop_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """If the table's settings cannot be changed, the batch is committed, and the next commit changes them."""
    with monkeypatch.context() as before:
        before.delitem(delta_commit._CONFIGURATION, "delta.dataSkippingStatsColumns")
        table.commit(OLD, 1, 5)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(TableAlterer, "set_table_properties", fail)
        table.commit(FIRST, 1, 1)
    assert f"the Delta table's settings could not be changed: {error}" in caplog.text
    table.commit(SECOND, 1, 7)
    assert table.stored() == {OLD: [5], FIRST: [1], SECOND: [7]}
    assert "delta.dataSkippingStatsColumns" in table.delta().metadata().configuration


@pytest.mark.parametrize("error", [OSError("connection reset"), CommitFailedError("the answer was lost")])
def test_commit_with_lost_response_is_recognised(
    table: Table, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A commit whose response is lost is found in the log and not repeated."""
    table.commit(SECOND, 1, 7)
    real = DeltaTable.create_write_transaction

    def lose_answer(self: DeltaTable, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        raise error

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lose_answer)
    before = table.delta().version()
    made = table.commit(FIRST, 1, 1, 2)
    assert made.version == table.delta().version() == before + 1
    assert table.stored() == {FIRST: [1, 2], SECOND: [7]}


@pytest.mark.parametrize("error", [OSError("Generic S3 error: 503 Slow Down"), CommitFailedError("conflict")])
def test_failing_commit_ends_at_deadline(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """A commit that keeps failing is retried until its deadline and then reports the last error."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    commit = replace(table.written(FIRST, 1, [1]), patience_seconds=0.5)
    with pytest.raises(
        DeltaCommitError, match=f"did not succeed within 0 s: {error}. Start the next attempt"
    ):
        commit.make(lambda: True)
    assert "retrying the Delta commit" in caplog.text
    assert table.stored() == {}


def test_missing_altered_or_doubled_files_are_not_committed(table: Table) -> None:
    """Files that are missing, have another size or are listed twice are refused; Delta would accept them."""
    commit = table.written(FIRST, 1, [1], [2])
    first, second = commit.files
    key = f"predictions/{table.model}/delta/{second.path}"
    cases = {
        "is missing": replace(commit, files=[first, replace(second, path=f"{FIRST}/1/s9-00000.parquet")]),
        f"has {second.bytes} bytes, but 1 were written": replace(
            commit, files=[first, replace(second, bytes=1)]
        ),
        "twice": replace(commit, files=[first, second, first]),
    }
    for what, wrong in cases.items():
        with pytest.raises(DeltaCommitError, match=what):
            wrong.make(lambda: True)
    table.store.client.delete_object(Bucket=table.store.bucket, Key=key)
    with pytest.raises(DeltaCommitError, match=f"{second.path} is missing"):
        commit.make(lambda: True)
    assert table.store.listing(f"predictions/{table.model}/delta/_delta_log/") == []


def test_files_old_enough_for_vacuum_are_not_committed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a VACUUM may be deleting are refused, unless they are committed already."""
    first, second = table.written(FIRST, 1, [1]), table.written(SECOND, 1, [2])
    made = first.make(lambda: True)
    monkeypatch.setattr(delta_commit, "_COMMITTED_WITHIN", timedelta(days=-1))
    with pytest.raises(DeltaCommitError, match=r"was written at 20.* after 7 days\. Start the next"):
        second.make(lambda: True)
    assert first.make(lambda: True) == made
    assert table.stored() == {FIRST: [1]}


def test_leftover_rows_of_earlier_attempt_fail_the_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rows of an earlier attempt remain in the table, the commit fails."""
    table.commit(FIRST, 1, 1, 2)
    monkeypatch.setattr(TableCommit, "_separated_files", lambda *_: [])
    with pytest.raises(DeltaCommitError, match="holds 3 rows of the batch in 2 files, but 1 rows in 1 files"):
        table.commit(FIRST, 2, 3)


def test_table_is_accepted_by_loaders(table: Table) -> None:
    """The committed table passes the loader's checks and keeps its log."""
    table.commit(FIRST, 1, 1)
    delta = table.delta()
    check_delta_table(
        SCHEMA,
        table_schema=delta.schema().to_json(),
        reader_version=delta.protocol().min_reader_version,
        writer_version=delta.protocol().min_writer_version,
        partition_columns=delta.metadata().partition_columns,
        settings=delta.metadata().configuration,
    )
    assert delta.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


def test_columns_can_be_added_and_removed(table: Table) -> None:
    """A batch has nulls in columns that its schema lacks, and a new column appears with its version."""
    table.commit(FIRST, 1, 1)
    table.schema = PredictionSchema((*SCHEMA.columns, Column("more", ColumnType(Kind.LONG))), SCHEMA.key)
    made = table.commit(SECOND, 1, 2)
    assert table.stored(made.version) == {FIRST: [1], SECOND: [2]}
    assert "more" in {field.name for field in table.delta(made.version).schema().fields}
    table.schema = SCHEMA
    table.commit(OLD, 1, 3)
    rows = table.delta().to_pyarrow_table().to_pylist()
    assert {row["minutes"]: row["more"] for row in rows} == {1: None, 2: None, 3: None}
