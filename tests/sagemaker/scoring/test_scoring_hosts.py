"""Tests of score jobs with several hosts, each a process with the real script, on the local S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.naming.s3_layout import done_key, json_attempt_prefix
from tests.sagemaker.scoring.scored_model import DAY, GROUPS, NEXT_DAY, PREDICT, ROWS, SHARES, ScoredModel
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
_IMPATIENT = {"PATIENCE": "4"}


@pytest.fixture
def model(local_stack: LocalStack, aws_client: Callable[[str], Any], tmp_path: Path) -> ScoredModel:
    """Give a model with features of one day in nine row groups of three files."""
    model = ScoredModel(local_stack.environment, aws_client, tmp_path)
    model.write()
    model.write_features()
    return model


def test_batch_is_the_same_for_any_number_of_hosts(model: ScoredModel) -> None:
    """One, two and four hosts write the same rows, checksum and bytes."""
    written = []
    for hosts in (1, 2, 4):
        batch_id = model.batch()
        manifest = model.scored(batch_id, hosts=hosts)
        assert manifest.row_count == ROWS
        written.append((manifest.checksum, model.written(batch_id)))
    assert len(written[0][1]) == SHARES
    assert written[0] == written[1] == written[2]


def test_previous_batch_is_joined_the_same_by_any_number_of_hosts(model: ScoredModel) -> None:
    """Each row is predicted with its entity's row of the previous batch, if there is one."""
    first = model.scored(model.batch(), hosts=2)
    model.write_features(NEXT_DAY, GROUPS, first=100)
    written = []
    for hosts in (1, 3):
        batch_id = model.batch(NEXT_DAY)
        manifest = model.scored(batch_id, hosts=hosts, day=NEXT_DAY)
        assert manifest.previous_batch_id == first.batch_id
        rows = {row["flight"]: row for row in model.rows(batch_id)}
        assert len(rows) == ROWS
        for number in range(100, 100 + ROWS):
            before = number + 1000 if number < ROWS else None
            assert rows[f"AA-{number}"]["before"] == before
        written.append((manifest.checksum, model.written(batch_id, NEXT_DAY)))
    assert len(written[0][1]) > 1
    assert written[0] == written[1]


def test_batch_keeps_its_first_model_version(model: ScoredModel) -> None:
    """All hosts and attempts of a batch use its first version; a promotion affects the next batch."""
    model.promote(1, minutes=1)
    batch_id = model.batch()
    hosts = [
        model.start(batch_id, host=number, hosts=2, does=_IMPATIENT | {"DIE_AT": "before .*receipts/00006"})
        for number in (1, 2)
    ]
    assert all(each.end() for each in hosts)
    model.promote(2, minutes=2)
    manifest = model.scored(batch_id, hosts=2, attempt=2)
    assert [row["minutes"] for row in model.rows(batch_id)] == list(range(1, ROWS + 1))
    assert manifest.model_package is not None
    assert (manifest.model_package.version, manifest.model_package.digest) == (1, manifest.model_version)
    later = model.batch()
    assert model.scored(later, hosts=2).model_package is not None
    assert [row["minutes"] for row in model.rows(later)] == list(range(2, ROWS + 2))


def test_whole_model_writes_the_same_rows_in_one_part(model: ScoredModel) -> None:
    """A model that predicts all rows in one call writes the rows and checksum of the chunked batch."""
    chunked = model.scored(model.batch())
    model.write(whole=True)
    batch_id = model.batch()
    manifest = model.scored(batch_id)
    assert (manifest.row_count, manifest.checksum) == (ROWS, chunked.checksum)
    assert list(model.written(batch_id)) == ["00000-00000.jsonl.gz"]


@pytest.mark.parametrize(
    ("host", "moment"),
    [
        pytest.param(1, "after .*plan.json", marks=pytest.mark.slow),
        (1, "before .*receipts/00002"),
        pytest.param(1, "after .*receipts/00002", marks=pytest.mark.slow),
        pytest.param(2, "before .*00005-00000.jsonl.gz", marks=pytest.mark.slow),
        (2, "after .*delta/.*00005"),
        pytest.param(1, "before commit", marks=pytest.mark.slow),
        (1, "after commit"),
        pytest.param(1, "before done/", marks=pytest.mark.slow),
        pytest.param(1, "after done/", marks=pytest.mark.slow),
    ],
)
def test_killed_and_repeated_job_makes_one_batch(model: ScoredModel, host: int, moment: str) -> None:
    """Wherever a host is killed, a repeated job completes the attempt without changing what was written."""
    batch_id = model.batch()
    dies = {"DIE_AT": moment, **_IMPATIENT}
    hosts = [
        model.start(batch_id, host=number, hosts=2, does=dies if number == host else _IMPATIENT)
        for number in (1, 2)
    ]
    codes = [each.end() for each in hosts]
    assert codes[host - 1] != 0, hosts[host - 1].log
    before = model.written(batch_id)
    manifest = model.scored(batch_id, hosts=2)
    assert manifest.attempt == 1
    undisturbed = model.batch()
    assert model.scored(undisturbed).checksum == manifest.checksum
    after = model.written(batch_id)
    assert after == model.written(undisturbed)
    assert before.items() <= after.items()


def test_first_host_accepts_shares_of_an_ended_host(model: ScoredModel) -> None:
    """A restarted first host completes the batch with shares that a silent, ended host already wrote."""
    batch_id = model.batch()
    planned = model.start(batch_id, host=1, hosts=2, does={"DIE_AT": "after .*plan.json"})
    assert planned.end() != 0
    assert "manifest_key" not in model.start(batch_id, host=2, hosts=2).said()
    model.start(batch_id, host=1, hosts=2, does={"PATIENCE": "0"}).said()
    assert model.checked(batch_id).row_count == ROWS


def test_host_with_one_share_uses_one_thread(model: ScoredModel) -> None:
    """A host with one share predicts with one thread, as others do, so that the digits are the same."""
    predict = f"import os\n{PREDICT}".replace('model["minutes"]', 'int(os.environ["OMP_NUM_THREADS"])')
    model.write(predict=predict)
    batch_id = model.batch()
    planned = model.start(batch_id, host=1, hosts=SHARES, does={"DIE_AT": "after .*plan.json"})
    assert planned.end() != 0
    model.start(batch_id, host=SHARES, hosts=SHARES).said()
    model.scored(batch_id)
    assert [row["minutes"] for row in model.rows(batch_id)] == list(range(1, ROWS + 1))


def test_straggler_of_an_earlier_attempt_changes_nothing(model: ScoredModel, tmp_path: Path) -> None:
    """A host of an earlier attempt that writes late changes neither the batch nor the Delta table."""
    batch_id, go_on = model.batch(), tmp_path / "go-on"
    straggler = model.start(
        batch_id, host=2, hosts=2, does={"WAIT_AT": "before .*receipts/", "WAIT_FOR": str(go_on)}
    )
    lost = model.start(batch_id, host=1, hosts=2, does=_IMPATIENT)
    assert lost.end() == 1
    manifest = model.scored(batch_id, hosts=2, attempt=2)
    table = model.objects(f"predictions/{model.name}/delta/_delta_log/")
    go_on.touch()
    assert "manifest_key" not in straggler.said()
    late = model.start(batch_id, host=1, hosts=2)
    assert late.said()["adopted"]
    assert model.checked(batch_id) == manifest
    assert manifest.attempt == 2
    assert model.objects(f"predictions/{model.name}/delta/_delta_log/") == table


def test_waiting_host_adopts_batch_of_another_attempt(model: ScoredModel) -> None:
    """A first host that waits for others adopts the batch once another attempt has completed it."""
    batch_id = model.batch()
    waits = model.start(batch_id, host=1, hosts=2, attempt=2)
    receipts = f"{json_attempt_prefix(model.name, DAY, batch_id, 2)}receipts/"
    wait_until(lambda: bool(model.objects(receipts)), seconds=60, what="the first host's shares are written")
    manifest = model.scored(batch_id, hosts=2)
    assert waits.said()["adopted"]
    assert manifest.attempt == 1
    assert model.checked(batch_id) == manifest


def test_concurrent_duplicate_hosts_write_one_batch(model: ScoredModel) -> None:
    """Two jobs with the same hosts that run at once complete the same batch."""
    batch_id = model.batch()
    running = [model.start(batch_id, host=host, hosts=2) for host in (2, 1, 2, 1)]
    for host in running:
        host.said()
    assert model.checked(batch_id).row_count == ROWS


def test_hosts_that_never_start_are_named(model: ScoredModel) -> None:
    """The first host stops waiting, names the missing hosts, attempt and batch, and writes no done file."""
    batch_id = model.batch()
    alone = model.start(batch_id, host=1, hosts=3, does=_IMPATIENT)
    assert alone.end() == 1
    assert "HostLostError" in alone.message
    assert "algo-2 did not start within" in alone.message
    assert "algo-3 did not start within" in alone.message
    assert f"attempt 1 at batch {batch_id}" in alone.message
    with pytest.raises(model.client("s3").exceptions.NoSuchKey):
        model.content(done_key(model.name, batch_id))


def test_host_without_first_host_gives_up(model: ScoredModel) -> None:
    """Without a plan by the first host, another host fails and says so."""
    alone = model.start(model.batch(), host=2, hosts=2, does=_IMPATIENT)
    assert alone.end() == 1
    assert "The first host, algo-1, did not write " in alone.message


def test_failure_of_first_host_ends_other_hosts(model: ScoredModel) -> None:
    """Running and later hosts end with the first host's error instead of waiting at a cost."""
    batch_id = model.batch(NEXT_DAY)
    first, second = (model.start(batch_id, day=NEXT_DAY, host=host, hosts=2) for host in (1, 2))
    late = None if first.end() != 1 else model.start(batch_id, day=NEXT_DAY, host=2, hosts=2)
    assert late is not None, first.log
    for host in (second, late):
        assert host.end() == 1
        assert f"The first host, algo-1, failed: FeaturesError: {model.name}: There are no" in host.message


def test_first_host_reports_failure_of_another_host(model: ScoredModel) -> None:
    """The first host's message names the failed host and its error."""
    # The last row is in the last share, which the second host scores.
    model.write(fails_at=ROWS - 1)
    batch_id = model.batch()
    hosts = [model.start(batch_id, host=host, hosts=2, does=_IMPATIENT) for host in (1, 2)]
    assert [host.end() for host in hosts] == [1, 1]
    assert "ValueError: minutes are impossible" in hosts[1].message
    assert "algo-2 failed: FunctionError:" in hosts[0].message
    assert "minutes are impossible" in hosts[0].message


def test_killed_process_error_names_share_and_attempt(model: ScoredModel) -> None:
    """If a process is killed, the message names its share, attempt, batch and partition."""
    batch_id = model.batch()
    killed = model.start(batch_id, does={"DIE_AT": "before .*receipts/00002"})
    assert killed.end() == 1
    assert "The process that worked on share 00002 ended with SIGKILL" in killed.message
    assert f"This error ended attempt 1 at batch {batch_id} of {model.name} for {DAY}." in killed.message


def test_first_host_logs_progress_of_all_hosts(model: ScoredModel) -> None:
    """The first host's last progress line counts the rows of all hosts, with rate and time left."""
    batch_id = model.batch()
    hosts = [
        model.start(batch_id, host=host, hosts=2, does=_IMPATIENT | {"PATIENCE": "60"}) for host in (1, 2)
    ]
    for host in hosts:
        host.said()
    lines = [line for line in hosts[0].log.splitlines() if "progress: step=score" in line]
    assert f"rows={ROWS} " in lines[-1]
    assert "rows_per_second=" in lines[-1]
    assert "eta_seconds=0" in lines[-1]
