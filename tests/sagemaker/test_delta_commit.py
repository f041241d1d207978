"""Tests of the Delta commit on the local S3: late, racing, repeated and growing."""

from __future__ import annotations

import io
import json
import threading
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableAlterer

from prediction_batches import delta_commit
from prediction_batches.delta_commit import AttemptSupersededError, CommittedVersion, ModelTable
from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.stores.delta_table import check_delta_table
from sagemaker_scripts.batches.batch_rows import delta_rows, prediction_lines
from tests.sagemaker.scoring_jobs import stack_options

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack

FIRST, SECOND = "20130201T060000Z-00000001", "20130202T060000Z-00000002"
OLD = "20130131T060000Z-00000000"
SCHEMA = PredictionSchema.from_document(
    {
        "key": "entity_id",
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False},
            {"name": "minutes", "type": "long", "nullable": True},
        ],
    }
)


@pytest.fixture
def table(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> ModelTable:
    """Give the table of a model that has no batch yet."""
    store = ObjectStore(aws_client("s3"), local_stack.environment["MLPIPE_DATA_BUCKET"])
    options = storage_options(local_stack.environment) | stack_options(local_stack.environment)
    return ModelTable(store, f"m{uuid.uuid4().hex}", SCHEMA, options)


def rows_of(batch_id: str, *minutes: int, schema: PredictionSchema = SCHEMA) -> pa.Table:
    """Return rows of a batch."""
    frame = pd.DataFrame({"entity_id": [f"AA-{value}" for value in minutes], "minutes": minutes})
    return delta_rows(schema, prediction_lines(schema, frame.reindex(columns=list(schema.names))), batch_id)


def commit(table: ModelTable, batch_id: str, attempt: int, *minutes: int) -> CommittedVersion:
    """Commit rows of a batch."""
    return table.commit(
        rows_of(batch_id, *minutes, schema=table.schema),
        batch_id=batch_id,
        attempt=attempt,
        still_wanted=lambda: True,
    )


def stored(table: ModelTable, version: int | None = None) -> dict[str, list[int]]:
    """Return the minutes of each batch in a version, or in the head."""
    uri = f"s3://{table.store.bucket}/predictions/{table.model}/delta/"
    rows = DeltaTable(uri, version=version, storage_options=dict(table.options)).to_pyarrow_table()
    found: dict[str, list[int]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["batch_id"], []).append(row["minutes"])
    return {batch_id: sorted(minutes) for batch_id, minutes in found.items()}


def test_a_later_attempt_replaces_its_batch_and_no_other(table: ModelTable) -> None:
    """The head holds the later attempt's rows alone; the version of the earlier one stays readable."""
    other = commit(table, SECOND, 1, 7)
    early = commit(table, FIRST, 1, 1, 2)
    late = commit(table, FIRST, 2, 1, 3)
    assert other.version < early.version < late.version
    assert stored(table) == {FIRST: [1, 3], SECOND: [7]}
    assert stored(table, early.version) == {FIRST: [1, 2], SECOND: [7]}
    assert len(late.files) == 1
    assert not set(late.files) & set(early.files)


def test_an_attempt_after_optimize_names_its_own_files_alone(table: ModelTable) -> None:
    """OPTIMIZE puts rows of several batches into one file, which a commit must not rewrite into its own."""
    commit(table, OLD, 1, 5)
    commit(table, FIRST, 1, 1, 2)
    commit(table, SECOND, 1, 7)
    uri = f"s3://{table.store.bucket}/predictions/{table.model}/delta/"
    DeltaTable(uri, storage_options=dict(table.options)).optimize.compact()
    made = commit(table, FIRST, 2, 3)
    assert stored(table) == {OLD: [5], FIRST: [3], SECOND: [7]}
    (file,) = made.files
    content = table.store.get(f"predictions/{table.model}/delta/{file}")
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [(row["batch_id"], row["minutes"]) for row in rows] == [(FIRST, 3)]


def test_an_attempt_that_is_not_above_the_recorded_one_stops(table: ModelTable) -> None:
    """Neither the same number nor a lower one commits; the error says which attempt did."""
    commit(table, FIRST, 2, 1)
    for attempt in (1, 2):
        with pytest.raises(AttemptSupersededError, match=f"Attempt 2 has .* this is attempt {attempt}"):
            commit(table, FIRST, attempt, 9)
    assert stored(table) == {FIRST: [1]}


def test_an_attempt_stops_where_a_manifest_has_appeared(table: ModelTable) -> None:
    """It asks right before it commits."""
    with pytest.raises(AttemptSupersededError, match="manifest from another attempt"):
        table.commit(rows_of(FIRST, 1), batch_id=FIRST, attempt=1, still_wanted=lambda: False)
    assert stored(table) == {}


def test_a_late_attempt_loses_against_the_one_that_overtook_it(table: ModelTable) -> None:
    """It had seen the table before the other's commit, and even so commits nothing after it."""
    commit(table, SECOND, 1, 7)
    overtaken: list[CommittedVersion] = []

    def overtake() -> bool:
        if not overtaken:
            overtaken.append(commit(table, FIRST, 2, 2))
        return True

    with pytest.raises(AttemptSupersededError, match="Attempt 2"):
        table.commit(rows_of(FIRST, 1), batch_id=FIRST, attempt=1, still_wanted=overtake)
    assert len(overtaken) == 1
    assert stored(table) == {FIRST: [2], SECOND: [7]}


def test_batches_that_are_committed_at_once_are_all_kept(table: ModelTable) -> None:
    """Each has a version of its own with its own file, also where the table is made at the same time."""
    batches = [f"20130201T06000{number}Z-0000000{number}" for number in range(4)]
    made: dict[str, CommittedVersion] = {}
    threads = [
        threading.Thread(
            target=lambda batch_id=batch_id, number=number: made.update(
                {batch_id: commit(table, batch_id, 1, number)}
            )
        )
        for number, batch_id in enumerate(batches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert stored(table) == {batch_id: [number] for number, batch_id in enumerate(batches)}
    assert len({commit.version for commit in made.values()}) == len(batches)
    assert len({commit.files for commit in made.values()}) == len(batches)


def wide_schema(columns: int) -> PredictionSchema:
    """Return a schema of that many columns."""
    more = tuple(Column(f"more_{number}", ColumnType(Kind.LONG)) for number in range(columns - 2))
    return PredictionSchema((*SCHEMA.columns, *more), SCHEMA.key)


def statistics(table: ModelTable) -> list[dict[str, Any]]:
    """Return the lowest values that the log states of each file, in the order of the commits."""
    keys = table.store.client.list_objects_v2(
        Bucket=table.store.bucket, Prefix=f"predictions/{table.model}/delta/_delta_log/"
    )["Contents"]
    lines = [line for each in keys for line in table.store.get(each["Key"]).splitlines()]
    added = [action["add"] for action in map(json.loads, lines) if "add" in action]
    return [json.loads(file["stats"])["minValues"] for file in added]


def tries_beside_another(table: ModelTable, monkeypatch: pytest.MonkeyPatch) -> int:
    """Commit a batch while another one is committed first; return how often it was tried."""
    tries: list[str] = []
    real = delta_commit.write_deltalake

    def counted(*arguments: Any, **options: Any) -> None:
        tries.append(options["predicate"])
        real(*arguments, **options)

    def be_overtaken() -> bool:
        if not tries:
            commit(table, SECOND, 1, 7)
        return True

    monkeypatch.setattr(delta_commit, "write_deltalake", counted)
    rows = rows_of(FIRST, 1, schema=table.schema)
    table.commit(rows, batch_id=FIRST, attempt=1, still_wanted=be_overtaken)
    return sum(FIRST in tried for tried in tries)


@pytest.mark.parametrize("columns", [30, 32, 40])
def test_commits_of_different_batches_do_not_conflict_in_a_wide_table(
    table: ModelTable, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Beyond 32 columns, too, the log has the batch's statistics, by which Delta tells the commits apart."""
    wide = replace(table, schema=wide_schema(columns))
    assert tries_beside_another(wide, monkeypatch) == 1
    assert stored(wide) == {FIRST: [1], SECOND: [7]}
    assert statistics(wide) == [{"batch_id": SECOND}, {"batch_id": FIRST}]


def test_a_table_from_before_the_setting_gets_it(table: ModelTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batches stay replaceable, and commits of new ones do not conflict."""
    wide = replace(table, schema=wide_schema(40))
    setting = "delta.dataSkippingStatsColumns"
    with monkeypatch.context() as before:
        before.delitem(delta_commit._CONFIGURATION, setting)
        commit(wide, OLD, 1, 5)
    assert "batch_id" not in statistics(wide)[0]
    assert tries_beside_another(wide, monkeypatch) == 1
    assert statistics(wide)[1:] == [{"batch_id": SECOND}, {"batch_id": FIRST}]
    commit(wide, OLD, 2, 6)
    assert stored(wide) == {OLD: [6], FIRST: [1], SECOND: [7]}


@pytest.mark.parametrize("error", [OSError("Generic S3 error: 503 Slow Down"), CommitFailedError("conflict")])
def test_a_setting_that_cannot_be_changed_now_stops_no_commit(
    table: ModelTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The batch is committed, the log says what could not be done, and the next commit does it."""
    with monkeypatch.context() as before:
        before.delitem(delta_commit._CONFIGURATION, "delta.dataSkippingStatsColumns")
        commit(table, OLD, 1, 5)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(TableAlterer, "set_table_properties", fail)
        commit(table, FIRST, 1, 1)
    assert f"the table's settings could not be changed now: {error}" in caplog.text
    commit(table, SECOND, 1, 7)
    assert stored(table) == {OLD: [5], FIRST: [1], SECOND: [7]}
    assert statistics(table)[-1] == {"batch_id": SECOND}


def test_a_commit_whose_answer_was_lost_is_recognised(
    table: ModelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is asked who wrote it, so the rows are not written twice and no error is raised."""
    commit(table, SECOND, 1, 7)
    real = delta_commit.write_deltalake

    def lose_answer(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(delta_commit, "write_deltalake", lose_answer)
    made = commit(table, FIRST, 1, 1, 2)
    assert stored(table, made.version) == stored(table) == {FIRST: [1, 2], SECOND: [7]}


def test_the_table_is_one_that_loaders_take(table: ModelTable) -> None:
    """Plain Parquet, the declared columns, and a log that is not cleaned up by itself."""
    commit(table, FIRST, 1, 1)
    delta = DeltaTable(
        f"s3://{table.store.bucket}/predictions/{table.model}/delta/", storage_options=dict(table.options)
    )
    check_delta_table(
        SCHEMA,
        table_schema=delta.schema().to_json(),
        reader_version=delta.protocol().min_reader_version,
        writer_version=delta.protocol().min_writer_version,
        partition_columns=delta.metadata().partition_columns,
        settings=delta.metadata().configuration,
    )
    assert delta.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


def test_a_model_may_gain_a_column(table: ModelTable) -> None:
    """Batches before it have no value there; the version of the new batch has the new schema."""
    commit(table, FIRST, 1, 1)
    grown = PredictionSchema((*SCHEMA.columns, Column("more", ColumnType(Kind.LONG))), SCHEMA.key)
    made = replace(table, schema=grown).commit(
        rows_of(SECOND, 2, schema=grown), batch_id=SECOND, attempt=1, still_wanted=lambda: True
    )
    assert stored(table, made.version) == {FIRST: [1], SECOND: [2]}
    uri = f"s3://{table.store.bucket}/predictions/{table.model}/delta/"
    names = DeltaTable(uri, version=made.version, storage_options=dict(table.options)).schema().to_arrow()
    assert "more" in {field.name for field in names}


def test_a_local_endpoint_may_be_plain_http_and_aws_may_not() -> None:
    """What the environment does not say is left to the AWS defaults."""
    local = storage_options({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"})
    assert local["AWS_ALLOW_HTTP"] == "true"
    aws = storage_options({"AWS_REGION": "eu-west-1"})
    assert aws["AWS_REGION"] == "eu-west-1"
    assert not {"AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL"} & set(aws)
    assert aws["conditional_put"] == local["conditional_put"] == "etag"
