"""`mlpipe publish`, `rollback` and `hold` on a real registry and a real projection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from mlpipe_dagster.publication.publication_events import REPORT_GRACE, PublicationReporter
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.registry.records import PublicationEntry
from tests.dagster.cli_calls import CommandLine
from tests.dagster.publication.test_publication_asset import projection, publisher, request
from tests.dagster.small_model import now
from tests.projects import new_project

if TYPE_CHECKING:
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[3]


def test_publish_rollback_and_publish_again(small_model: SmallModel, command_line: CommandLine) -> None:
    """Each command names the batch that is live now, and Snowflake's projection follows it."""
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    for batch_id in (first, second):
        told = command_line.json("publish", small_model.name, batch_id)
        assert (told.status, told.document["live_batch_id"]) == (0, batch_id)
    told = command_line.json("rollback", small_model.name)
    shown = told.document
    assert (told.status, shown["live_batch_id"], shown["sequence"]) == (0, first, 3)
    assert shown["newly_projected"] == 1
    told = command_line.json("publish", small_model.name, second)
    assert (told.status, told.document["live_batch_id"]) == (0, second)
    listed = command_line.json("batches", small_model.name).document["batches"]
    assert {row["batch_id"]: row["release_state"] for row in listed} == {first: "superseded", second: "live"}


def test_change_by_a_command_is_shown_in_dagster_once(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unreported changes are shown in order, and neither a repetition nor the sensor shows them again."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    asked = ("publish", small_model.name, first, "--request-id", "r-1", "--actor", "ada", "--reason", "why")
    for _ in range(2):
        assert command_line.json(*asked).document["shown_in_dagster"] is True
    publisher(small_model).publish(second, request(), small_model.serving)
    assert command_line.json("rollback", small_model.name).document["shown_in_dagster"] is True
    with dg.DagsterInstance.get() as instance:
        reports = PublicationReporter(
            instance=instance, registry=small_model.platform.registry, now=now() + 2 * REPORT_GRACE
        )
        assert reports.report_missing(small_model.name, None) == 3
        key = dg.AssetKey([small_model.name, "publication"])
        events = [
            record.asset_materialization
            for record in instance.fetch_materializations(key, limit=10, ascending=True).records
        ]
    shown = [
        (event.partition, event.metadata["batch_id"].value, event.metadata["outcome"].value)
        for event in events
        if event
    ]
    assert shown == [
        ("2013-01-31", first, "live"),
        ("2013-02-01", second, "live"),
        ("2013-02-01", second, "withdrawn"),
        ("2013-01-31", first, "live"),
    ]
    assert events[0] is not None
    assert events[0].metadata["dagster/row_count"].value == 3
    assert (events[0].metadata["actor"].value, events[0].metadata["reason"].value) == ("ada", "why")


def test_unreachable_dagster_does_not_undo_a_publication(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The batch is live, Snowflake followed first, and a note says that Dagster does not show it yet."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    batch_id = small_model.verified_batch()
    projected: list[tuple[int, str]] = []

    def unreachable() -> dg.DagsterInstance:
        projected.extend(projection(small_model))
        raise OSError("no answer from Postgres")

    monkeypatch.setattr(dg.DagsterInstance, "get", unreachable)
    told = command_line.json("publish", small_model.name, batch_id)
    assert (told.status, told.document["shown_in_dagster"]) == (0, False)
    assert projected == [(1, batch_id)]
    assert "Dagster does not show the change until" in told.err


def test_sequence_numbers_in_snowflake_are_not_reused(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """After a restore the registry lacks publications, and the view would show those instead of new ones."""
    batch_id = small_model.verified_batch()
    forgotten = PublicationEntry(
        model=small_model.name,
        sequence=7,
        action="publish",
        batch_id="20261122T010203Z-00000000",
        partition="2013-01-30",
        actor="a person",
        request_id="forgotten",
        published_at="2026-11-22T01:02:03Z",
    )
    with Warehouse(platform=small_model.platform).session() as session:
        assert session.highest_projected(small_model.name) == 0
        session.project(small_model.name, [forgotten])
    told = command_line.json("publish", small_model.name, batch_id)
    assert (told.status, told.document["sequence"]) == (0, 8)
    assert projection(small_model) == [(7, forgotten.batch_id), (8, batch_id)]


def test_hold_and_release(small_model: SmallModel, command_line: CommandLine) -> None:
    """A hold needs no batch, and `--release` ends it."""
    assert command_line.json("hold", small_model.name).document["hold"] is True
    assert command_line.json("hold", small_model.name, "--release").document["hold"] is False


def test_unknown_batch_is_a_readable_error(small_model: SmallModel, command_line: CommandLine) -> None:
    """The status is 1, and the message names the batch and the command that lists batches."""
    told = command_line.json("publish", small_model.name, "20261123T010203Z-ffffffff")
    assert (told.status, told.out) == (1, "")
    assert f"{small_model.name}/20261123T010203Z-ffffffff" in told.err
    assert "mlpipe batches" in told.err


def test_unverified_batch_cannot_be_published_by_a_person(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """The status is 1, the message gives the reason, and nothing is live."""
    batch_id = small_model.registered_batch()
    told = command_line("publish", small_model.name, batch_id)
    assert told.status == 1
    assert "not verified" in told.err
    assert command_line.json("batches", small_model.name).document["live"]["batch_id"] is None


def test_repeated_request_does_nothing(small_model: SmallModel, command_line: CommandLine) -> None:
    """A retry after a lost answer succeeds, but once another batch is live it fails."""
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    asked = ("publish", small_model.name, first, "--request-id", "r-1")
    assert command_line.json(*asked).status == 0
    again = command_line.json(*asked)
    assert (again.status, again.document["outcome"]) == (0, "unchanged")
    command_line.json("publish", small_model.name, second)
    late = command_line.json(*asked)
    assert (late.status, late.document["live_batch_id"]) == (1, second)
    assert "the model has changed since" in late.err


def test_actor_and_reason_are_kept(small_model: SmallModel, command_line: CommandLine) -> None:
    """The history says who published the batch and why."""
    batch_id = small_model.verified_batch()
    command_line.json("publish", small_model.name, batch_id, "--actor", "ada", "--reason", "release 7")
    (entry,) = command_line.json("show", small_model.name, batch_id).document["publications"]
    assert (entry["actor"], entry["reason"], entry["action"]) == ("ada", "release 7", "publish")


def test_closed_output_is_not_an_error(small_model: SmallModel, tmp_path: Path) -> None:
    """`mlpipe ... | head` ends quietly, in its own process as a user starts it."""
    batch_id = small_model.verified_batch()
    project = new_project(tmp_path / "project")
    CommandLine.declare_in(project.defs / small_model.name)
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "import sys; from pathlib import Path; "
        "from mlpipe_dagster.cli.deployment_access import DeploymentAccess; "
        "from mlpipe_dagster.cli.main import main; "
        "from model_declaration.project import Project; "
        "sys.exit(main(sys.argv[2:], DeploymentAccess(Project.at(Path(sys.argv[1])))))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(project.root), "show", batch_id],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_unreachable_aws_is_a_readable_error(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that is down gives status 1 and a message with its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    told = command_line.json("batches", small_model.name)
    assert (told.status, told.out) == (1, "")
    assert "127.0.0.1:1" in told.err


def test_unreachable_snowflake_does_not_undo_a_publication(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is the authority: the batch is live, and a note says that Snowflake lags."""
    batch_id = small_model.verified_batch()
    monkeypatch.setenv("SNOWFLAKE_PORT", "1")
    monkeypatch.setenv("SNOWFLAKE_LOGIN_TIMEOUT", "2")
    told = command_line.json("publish", small_model.name, batch_id)
    assert (told.status, told.document["live_batch_id"], told.document["newly_projected"]) == (0, batch_id, 0)
    assert "lags until the next publication" in told.err
