"""Invalid done files: each is refused once, visibly and with its reason, and all others still load."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.done_files import done_file_tick
from mlpipe_dagster.done_files.done_file_cursor import Cursor
from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS
from mlpipe_dagster.done_files.done_file_suspects import MAX_DEATHS
from mlpipe_dagster.done_files.registration import DoneFile, parse_done_file, register_done_file
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.manifests.manifest import MANIFEST_VALUES
from prediction_contract.registry.records import LoadState
from tests.dagster.sensor_daemon import SensorDaemon, batches, refusals, skipped_because
from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack


def without(member: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that removes one member from a document."""
    return lambda document: {name: value for name, value in document.items() if name != member}


def with_foreign_part(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with a JSON part of another batch."""
    part = {**document["json_parts"][0], "key": "predictions/other/json/part-00000.jsonl.gz"}
    return {**document, "json_parts": [part]}


@pytest.mark.parametrize(("minutes_ahead", "is_refused"), [(50, True), (6, True), (3, False)])
def test_batch_minted_in_the_future_is_refused(
    small_model: SmallModel, minutes_ahead: int, *, is_refused: bool
) -> None:
    """A small clock skew is tolerated; a larger one would stop the automatic publication of other batches."""
    ahead = datetime.now(UTC) + timedelta(minutes=minutes_ahead)
    minted = small_model.deliver(small_model.manifest(f"{ahead:%Y%m%dT%H%M%SZ}-00000000"))
    done_file = register_done_file(small_model.platform.bucket, small_model.platform.registry, minted.key)
    assert ("in the future" in str(done_file.refusal)) is is_refused
    state = LoadState.REFUSED if is_refused else LoadState.DONE
    assert small_model.record(minted.batch_id).load_state == state


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without("checksum"), "checksum"),
        (lambda document: {**document, "bucket": "another-bucket"}, "another-bucket"),
        (with_foreign_part, r"json_parts[0].key"),
        (lambda document: {**document, "row_count": 4}, "row_count"),
        (lambda document: {**document, "model": "../etc"}, "model"),
        (None, "not valid JSON"),
    ],
)
def test_invalid_manifest_is_refused_once(
    small_model: SmallModel,
    daemon: SensorDaemon,
    spoil: Callable[[dict[str, Any]], dict[str, Any]] | None,
    named: str,
) -> None:
    """Registry and UI show the reason, the batch beside it loads, and so does a corrected manifest."""
    good, bad = small_model.deliver(small_model.manifest()), small_model.manifest()
    content = b"{" if spoil is None else json.dumps(spoil(bad.to_document())).encode()
    small_model.platform.bucket.put(bad.key, content)
    result = daemon.tick()
    assert batches(result) == [good.batch_id]
    assert named in refusals(result)[0]
    assert [event.asset_key for event in result.asset_events] == [
        dg.AssetKey([small_model.name, "predictions"])
    ]
    refused = small_model.record(bad.batch_id)
    assert refused.load_state == LoadState.REFUSED
    assert named in str(refused.refusal_reason)

    for _ in range(3):
        again = daemon.tick()
        assert (again.run_requests, again.asset_events) == ([], [])

    small_model.deliver(bad)
    assert batches(daemon.tick()) == [bad.batch_id]
    assert small_model.record(bad.batch_id).load_state == LoadState.DONE


@pytest.mark.parametrize(
    "key",
    [
        "done/2026-11-23/../20261123T010203Z-00000001.json",
        "done/2026-11-23/Things/x.json",
        "done/2026-11-23/x",
    ],
)
def test_malformed_key_is_refused(
    small_model: SmallModel, daemon: SensorDaemon, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The file is not read, the tick names its key, and the asset `refused_done_files` records it once."""
    read: list[str] = []
    monkeypatch.setattr(DataBucket, "read", lambda _bucket, key: read.append(key) or b"{}")
    small_model.platform.bucket.put(key, b"{}")
    result = daemon.tick()
    assert result.run_requests == []
    assert key in skipped_because(result)
    (event,) = result.asset_events
    assert event.asset_key == dg.AssetKey("refused_done_files")
    again = daemon.tick()
    assert (skipped_because(again), again.asset_events) == ("No new done files", [])
    assert read == []


def test_manifest_with_too_many_values_is_refused(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Parsing ten of them took so long that no tick ever finished; the batch beside them loads."""
    bomb = b'{"x":[' + b"1," * MANIFEST_VALUES + b"1]}"
    bad = [small_model.manifest() for _ in range(10)]
    for manifest in bad:
        small_model.platform.bucket.put(manifest.key, bomb)
    good = small_model.deliver(small_model.manifest())
    result = daemon.tick()
    assert batches(result) == [good.batch_id]
    assert [f"{MANIFEST_VALUES} are allowed" in reason for reason in refusals(result)] == [True] * len(bad)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the keys whose parsing kills the tick, as too little memory or Dagster's timeout would."""
    keys: set[str] = set()

    def judge(bucket: DataBucket, key: str, content: bytes) -> DoneFile:
        if key in keys:
            raise SystemExit(key)
        return parse_done_file(bucket, key, content)

    monkeypatch.setattr(done_file_tick, "parse_done_file", judge)
    return keys


def ticks_until_quiet(daemon: SensorDaemon) -> tuple[list[str], list[str], int]:
    """Return the batches of the requested runs, the refusals and the number of ticks that died."""
    runs, told, died = [], [], 0
    for _ in range(30):
        try:
            result = daemon.tick(lists=False)
        except SystemExit:
            died += 1
            continue
        if not result.run_requests and not result.asset_events:
            return runs, told, died
        runs += batches(result)
        told += refusals(result)
    raise AssertionError("The sensor does not come to rest")


def test_files_that_kill_their_ticks_are_refused(
    small_model: SmallModel, daemon: SensorDaemon, killer: set[str]
) -> None:
    """The batches beside them load; each of them is refused once, and loads when it is delivered again."""
    manifests = [small_model.deliver(small_model.manifest()) for _ in range(6)]
    bad = manifests[1:6:3]
    killer |= {manifest.key for manifest in bad}
    with pytest.raises(SystemExit):
        daemon.tick()
    runs, told, died = ticks_until_quiet(daemon)
    assert runs == [manifest.batch_id for manifest in manifests if manifest not in bad]
    assert died + 1 <= 2 * MAX_DEATHS
    assert len(told) == len(bad)
    for manifest, reason in zip(bad, sorted(told), strict=True):
        assert "so it is not parsed again" in reason
        assert f"mlpipe load {manifest.key}" in reason
        assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED
        killer.clear()
        small_model.deliver(manifest)
    assert batches(daemon.tick()) == [manifest.batch_id for manifest in bad]


def test_file_whose_tick_died_for_another_reason_loads(
    small_model: SmallModel, daemon: SensorDaemon, killer: set[str]
) -> None:
    """Replacing the code server in the middle of a tick does not get a valid file refused."""
    manifests = [small_model.deliver(small_model.manifest()) for _ in range(3)]
    killer.add(manifests[1].key)
    with pytest.raises(SystemExit):
        daemon.tick()
    killer.clear()
    assert ticks_until_quiet(daemon) == ([manifest.batch_id for manifest in manifests], [], 0)


def test_undeclared_partition_is_refused(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """A run request for a partition that does not exist would fail the whole tick."""
    manifest = small_model.deliver(small_model.manifest(partition="2020-01-01"))
    assert "2020-01-01" in refusals(daemon.tick())[0]
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


def test_done_file_of_unknown_model_waits(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The wait is shown once with what to do; once the model is known, the next tick requests the run."""
    manifest = small_model.deliver(small_model.manifest())
    declared, daemon.partitions = daemon.partitions, {}
    told = daemon.tick()
    assert small_model.name in skipped_because(told)
    assert "reload the code location" in skipped_because(told)
    (event,) = told.asset_events
    assert event.metadata["waiting_done_file"].value == manifest.key
    assert skipped_because(daemon.tick()) == "No new done files"
    daemon.partitions = declared
    assert batches(daemon.tick(lists=False)) == [manifest.batch_id]
    assert daemon.tick().run_requests == []
    assert manifest.key not in Cursor.parse(daemon.cursor).waiting


def test_wait_for_unknown_model_ends(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """After the window the file is not retried, and the refusal names the command that loads it."""
    manifest = small_model.deliver(small_model.manifest())
    declared, daemon.partitions = daemon.partitions, {}
    daemon.tick()
    daemon.now += timedelta(days=WINDOW_DAYS)
    assert skipped_because(daemon.tick(lists=False)) == "No new done files"
    daemon.now += timedelta(days=1)
    assert f"mlpipe load {manifest.key}" in refusals(daemon.tick(lists=False))[0]
    daemon.partitions = declared
    assert daemon.tick().run_requests == []


def test_number_of_waiting_files_is_limited(
    small_model: SmallModel, daemon: SensorDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep finds the others once the model is known."""
    monkeypatch.setattr(done_file_tick, "MAX_WAITING", 1)
    manifests = [small_model.deliver(small_model.manifest()) for _ in range(2)]
    declared, daemon.partitions = daemon.partitions, {}
    daemon.tick()
    assert len(Cursor.parse(daemon.cursor).waiting) == 1
    daemon.partitions = declared
    loaded = [*batches(daemon.tick(lists=False)), *batches(daemon.tick())]
    assert loaded == [manifest.batch_id for manifest in manifests]
