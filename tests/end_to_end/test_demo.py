"""The README's first commands in a fresh clone: real daemon, sensor, scripts, stores and API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable
from deltalake.query import QueryBuilder

from infra.local.stack.dagster_service import answers
from infra.local.supervision.processes import DAGSTER_ROLE, stack_processes
from prediction_contract.registry.records import PublicationEntry
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import VersionState
from tests.end_to_end.fresh_clone import FreshClone
from tests.stack_runs import StackRun, aws_client_at

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(1800)]
_MODEL = "flight_delay"
_DAYS = ["2013-02-01", "2013-02-02", "2013-02-03"]


@dataclass(frozen=True)
class DemoRun:
    """A finished demo.

    Attributes:
        status: Its exit status.
        lines: Its standard output.
        output: Its standard error followed by its standard output.
    """

    status: int
    lines: list[str]
    output: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line's JSON."""
        return json.loads(self.lines[-1])

    @property
    def days(self) -> dict[str, list[str]]:
        """The cells of the table's lines by day."""
        cells = [line.split() for line in self.lines if line[:10] in _DAYS]
        return {line[0]: line[1:] for line in cells}


def run_demo(clone: FreshClone) -> DemoRun:
    """Run the demo to its end."""
    done = clone.run("make demo")
    return DemoRun(done.returncode, done.stdout.splitlines(), done.stderr + done.stdout)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshClone]:
    """Clone the repository; at the end `make down` leaves no process and nothing to commit."""
    clone = FreshClone.made_in(tmp_path_factory.mktemp("demo"))
    try:
        yield clone
        assert len(clone.processes()) >= 5
        done = clone.run("make down")
        assert done.returncode == 0, done.stdout + done.stderr
        assert clone.processes() == {}
        status = clone.run("make status")
        assert status.returncode != 0
        assert "mlpipe up" in status.stdout + status.stderr
        assert clone.run("git status --porcelain").stdout == ""
    finally:
        clone.kill_processes()


@pytest.fixture(scope="module")
def stack(clone: FreshClone) -> StackRun:
    """Return the stack that the first demo starts."""
    return clone.stack


@pytest.fixture(scope="module")
def first(clone: FreshClone) -> DemoRun:
    """Run the demo in a clone in which no command ran before."""
    return run_demo(clone)


@pytest.fixture(scope="module")
def entries_of_first(first: DemoRun, stack: StackRun) -> list[PublicationEntry]:
    """Return the publications of the first demo."""
    assert first.status == 0, first.output
    return registry(stack).publications(_MODEL)


@pytest.fixture(scope="module")
def second(entries_of_first: list[PublicationEntry], clone: FreshClone) -> DemoRun:
    """Run the demo again on the state of the first one."""
    assert entries_of_first
    return run_demo(clone)


def registry(stack: StackRun) -> RegistryTable:
    """Return the stack's registry."""
    variables = stack.running().environment
    client = aws_client_at(variables["AWS_ENDPOINT_URL"], "dynamodb")
    return RegistryTable(client, variables["MLPIPE_REGISTRY_TABLE"])


def rows_held(stack: StackRun, batch_id: str) -> dict[str, int]:
    """Count a batch's rows in the three stores with independent clients."""
    variables = stack.running().environment
    endpoint = variables["AWS_ENDPOINT_URL"]
    scan = aws_client_at(endpoint, "dynamodb").get_paginator("scan")
    items = [
        item
        for page in scan.paginate(TableName=f"mlpipe-local-predictions-{_MODEL}")
        for item in page["Items"]
        if item["batch_id"]["S"] == batch_id
    ]
    options = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    uri = f"s3://{variables['MLPIPE_DATA_BUCKET']}/predictions/{_MODEL}/delta"
    delta = DeltaTable(uri, storage_options=options)
    listed = (
        QueryBuilder()
        .register("t", delta)
        .execute("SELECT batch_id FROM t")
        .read_all()["batch_id"]
        .to_pylist()
    )
    with stack.snowflake(
        database=variables["SNOWFLAKE_DATABASE"], schema=variables["SNOWFLAKE_SCHEMA"]
    ) as connection:
        live = connection.cursor().execute('SELECT COUNT(*) FROM "FLIGHT_DELAY_LIVE"').fetchone()[0]
    return {
        "delta": list(listed).count(batch_id),
        "dynamodb": len(items),
        "snowflake": live,
    }


def test_readme_begins_with_these_commands(first: DemoRun, clone: FreshClone) -> None:
    """The README tells a newcomer to run the commands that this module runs."""
    assert first.status == 0, first.output
    assert clone.readme_commands() == ["make demo", "make dev"]


def test_first_demo_publishes_three_days(first: DemoRun) -> None:
    """The first demo succeeds, its rows agree in all stores, and each day is published."""
    assert first.status == 0, first.output
    result = first.result
    assert list(result) == [
        "ok",
        "model",
        "entity_id",
        "batch_id",
        "rows",
        "versions",
        "done_to_live_seconds",
        "response",
    ]
    assert result["ok"] is True
    assert (result["model"], result["entity_id"]) == (_MODEL, "AA-1141-JFK")
    assert len(set(result["rows"].values())) == 1
    assert list(result["rows"]) == ["json", "delta", "dynamodb", "snowflake"]
    # The numbers of distinct scheduled flights in the data set.
    assert {day: cells[2:7] for day, cells in first.days.items()} == {
        day: [str(rows)] * 4 + ["0"] for day, rows in zip(_DAYS, (926, 682, 814), strict=True)
    }
    assert len(result["done_to_live_seconds"]) == len(_DAYS)
    assert all(0 < seconds < 480 for seconds in result["done_to_live_seconds"])


def test_second_version_scores_one_day_and_is_demoted(
    entries_of_first: list[PublicationEntry], first: DemoRun, stack: StackRun
) -> None:
    """Both versions are promoted by rule, the second is demoted, and the API names the serving version."""
    assert first.result["versions"] == dict(zip(_DAYS, (1, 2, 1), strict=True))
    assert {day: cells[1] for day, cells in first.days.items()} == dict(zip(_DAYS, "121", strict=True))
    served = [json.loads(entry.serving or "{}")["model_package_version"] for entry in entries_of_first]
    assert served == [1, 2, 1, 2, 1]
    assert first.result["response"]["provenance"]["model_package_version"] == 1
    known = registry(stack)
    moves = [(entry.action, entry.version) for entry in reversed(list(known.promotions(_MODEL)))]
    assert moves == [("promote", 1), ("promote", 2), ("demote", 1)]
    versions = {version.version: version for version in known.model_versions(_MODEL)}
    assert {number: version.state for number, version in versions.items()} == {
        1: VersionState.CHAMPION,
        2: VersionState.WITHDRAWN,
    }
    assert [versions[number].judged_against for number in (1, 2)] == [0, 1]
    assert all((version.approved_by or "").startswith("rule") for version in versions.values())


def test_other_model_was_retrained(first: DemoRun, stack: StackRun) -> None:
    """The other model's pipeline made version 1, which is the champion."""
    assert first.status == 0, first.output
    champion = registry(stack).champion("airport_congestion")
    assert champion is not None
    assert champion.version == 1


def test_response_comes_from_the_live_batch(first: DemoRun) -> None:
    """The response has the last day's batch as provenance, the model's numbers and the weather."""
    response = first.result["response"]
    assert response["provenance"]["batch_id"] == first.result["batch_id"] == first.days[_DAYS[-1]][0]
    assert response["provenance"]["partition"] == _DAYS[-1]
    assert response["entity_id"] == response["prediction"]["entity_id"] == "AA-1141-JFK"
    assert 0 <= response["prediction"]["delay_probability"] <= 1
    # It would be null without a comparison of a previous batch with its outcomes.
    assert response["prediction"]["correction_minutes"] is not None
    assert response["enrichment"]["weather"]["data"]["station"] == "JFK"


def test_history_has_publications_and_rollback(
    entries_of_first: list[PublicationEntry], first: DemoRun
) -> None:
    """The registry has three automatic publications, the rollback by a day, and the publication after it."""
    changes = [(entry.action, entry.partition) for entry in entries_of_first]
    assert changes == [
        *(("publish", day) for day in _DAYS),
        ("rollback", _DAYS[1]),
        ("publish", _DAYS[2]),
    ]
    assert entries_of_first[-1].batch_id == first.result["batch_id"]
    assert all(entry.actor.startswith("dagster run ") for entry in entries_of_first[:3])


def test_stores_hold_the_reported_rows(first: DemoRun, stack: StackRun) -> None:
    """Independent clients count the rows in each store that the demo reports."""
    expected = {name: rows for name, rows in first.result["rows"].items() if name != "json"}
    assert rows_held(stack, first.result["batch_id"]) == expected


def test_stack_survives_the_demo_without_dagster(first: DemoRun, clone: FreshClone, stack: StackRun) -> None:
    """After the demo the stack is complete, and no Dagster process is left."""
    assert first.status == 0, first.output
    assert stack_processes(stack.state_directory, role=DAGSTER_ROLE) == []
    assert clone.run("make status").returncode == 0


def test_dev_runs_dagster_until_interrupted(first: DemoRun, clone: FreshClone, stack: StackRun) -> None:
    """`make dev` prints the UI's working address, and Ctrl-C ends Dagster but not the stack."""
    assert first.status == 0, first.output
    with clone.running("make dev", ready="Ctrl-C stops Dagster") as output:
        (address,) = [
            line.split()[1] for line in output.read_text().splitlines() if line.startswith("  dagster ")
        ]
        assert answers(f"{address}/server_info")
    assert "Dagster has stopped" in output.read_text()
    assert stack_processes(stack.state_directory, role=DAGSTER_ROLE) == []
    assert not answers(f"{address}/server_info")


@pytest.mark.drill
def test_second_demo_publishes_only_the_newest_day(second: DemoRun, first: DemoRun) -> None:
    """A second demo on the same state succeeds and publishes only the newest day."""
    assert second.status == 0, second.output
    assert [cells[-1] for cells in second.days.values()][:2] == ["history", "history"]
    assert len(second.result["done_to_live_seconds"]) == 1
    assert second.result["batch_id"] > first.result["batch_id"]
    assert second.result["versions"] == dict(zip(_DAYS, (1, 3, 1), strict=True))
