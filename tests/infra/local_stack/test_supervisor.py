"""The supervised local stack keeps its data, reports dead components and leaves no processes behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from infra.local.supervision.processes import SUPERVISOR_ROLE, stack_processes
from infra.local.supervision.stack_state import port_is_free
from tests.stack_runs import PROJECT_ROOT, StackRun, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.stack

NOTICED_SECONDS = 5


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackRun]:
    """A stack of all components, shared by tests that repair what they break."""
    run = StackRun(tmp_path_factory.mktemp("whole") / "state", ("aws", "snowflake", "jobs", "weather"))
    try:
        run.up()
        yield run
    finally:
        run.down()


def make_table(run: StackRun, name: str) -> None:
    """Create a DynamoDB table with one item."""
    dynamodb = run.aws("dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName=name, Item={"id": {"S": "one"}})


def has_item(run: StackRun, name: str) -> bool:
    """Whether the table's item exists."""
    return "Item" in run.aws("dynamodb").get_item(TableName=name, Key={"id": {"S": "one"}})


def test_up_fails_at_once_when_a_dependency_failed(new_stack: Callable[..., StackRun]) -> None:
    """The job executor needs AWS, so `up` reports it as waiting and does not wait for it."""
    run = new_stack("aws", "jobs")
    state = run.state_directory / "state" / "aws" / "services"
    state.mkdir(parents=True)
    (state / "sqs.json").write_text("{")
    started = time.monotonic()
    done = run.run("up")
    assert done.returncode == 1
    assert "waiting: it needs aws" in done.stdout
    assert time.monotonic() - started < 60


def test_data_and_ports_survive_down_and_up(new_stack: Callable[..., StackRun]) -> None:
    """An S3 object, a DynamoDB item and a Snowflake row are still there, on the same ports."""
    run = new_stack("aws", "snowflake")
    run.up()
    ports = {name: entry["port"] for name, entry in run.components().items()}
    run.aws("s3").create_bucket(Bucket="kept-bucket")
    run.aws("s3").put_object(Bucket="kept-bucket", Key="a/b.json", Body=b"{}", Metadata={"of": "me"})
    make_table(run, "kept-table")
    with run.snowflake() as connection:
        for statement in (
            "CREATE DATABASE KEPT",
            "CREATE SCHEMA KEPT.S",
            "CREATE TABLE KEPT.S.T (N INT)",
            "INSERT INTO KEPT.S.T VALUES (41)",
        ):
            connection.cursor().execute(statement)
    run.down()
    run.up()
    assert {name: entry["port"] for name, entry in run.components().items()} == ports
    kept = run.aws("s3").get_object(Bucket="kept-bucket", Key="a/b.json")
    assert (kept["Body"].read(), kept["Metadata"]) == (b"{}", {"of": "me"})
    assert has_item(run, "kept-table")
    with run.snowflake() as connection:
        rows = connection.cursor().execute("SELECT N FROM KEPT.S.T").fetchall()
    assert rows == [(41,)]


@pytest.mark.parametrize("name", ["aws", "snowflake", "jobs", "weather"])
def test_killed_component_is_reported_and_restarted_by_up(whole_run: StackRun, name: str) -> None:
    """`status` and log name it within 5 seconds; `up` restarts only it and says what was lost."""
    before = whole_run.components()
    os.kill(before[name]["pid"], signal.SIGKILL)
    wait_until(
        lambda: whole_run.components()[name]["state"] == "dead", seconds=NOTICED_SECONDS, what="noticed"
    )
    assert f"{name} is dead" in whole_run.log("supervisor")
    status = whole_run.run("status")
    assert status.returncode == 1
    assert [line.split()[0] for line in status.stdout.splitlines() if "dead" in line] == [name]

    said = whole_run.up()

    assert f"{name} had stopped unexpectedly. Lost: " in said
    after = whole_run.components()
    assert after[name]["pid"] != before[name]["pid"]
    assert {n: e["pid"] for n, e in after.items() if n != name} == {
        n: e["pid"] for n, e in before.items() if n != name
    }
    assert whole_run.run("status").returncode == 0


def test_up_reports_what_a_killed_emulator_lost(new_stack: Callable[..., StackRun]) -> None:
    """As `up` says, S3 objects survive a kill, and DynamoDB items written since the start do not."""
    run = new_stack("aws")
    run.up()
    make_table(run, "saved-table")
    run.down()
    run.up()
    run.aws("s3").create_bucket(Bucket="kept-bucket")
    run.aws("s3").put_object(Bucket="kept-bucket", Key="k", Body=b"kept")
    make_table(run, "lost-table")
    os.kill(run.components()["aws"]["pid"], signal.SIGKILL)
    said = run.up()
    assert "Lost: everything written since its start, except S3 objects: DynamoDB items" in said
    assert run.aws("s3").get_object(Bucket="kept-bucket", Key="k")["Body"].read() == b"kept"
    assert run.aws("dynamodb").list_tables()["TableNames"] == ["saved-table"]
    assert "Lost" not in run.up()


def test_dead_component_is_not_restarted_automatically(new_stack: Callable[..., StackRun]) -> None:
    """It stays dead until `up`, so that a person learns about lost data."""
    run = new_stack("aws")
    run.up()
    os.kill(run.components()["aws"]["pid"], signal.SIGKILL)
    wait_until(lambda: run.components()["aws"]["state"] == "dead", seconds=NOTICED_SECONDS, what="noticed")
    # Give the supervisor several rounds in which it could restart the component.
    time.sleep(1.5)
    assert "aws starts" not in run.log("supervisor").split("aws is dead")[1]
    assert stack_processes(run.state_directory, role="aws") == []


def test_down_leaves_no_process_and_no_open_port(new_stack: Callable[..., StackRun]) -> None:
    """After `down` all processes have ended and all ports are free."""
    run = new_stack("aws", "snowflake")
    run.up()
    processes = stack_processes(run.state_directory)
    assert len(processes) >= 3
    run.down()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert all(port_is_free(entry["port"]) for entry in run.components().values())
    assert run.run("status").returncode == 1


def test_two_stacks_run_side_by_side(new_stack: Callable[..., StackRun]) -> None:
    """Two stacks share neither data nor processes; stopping one leaves the other running."""
    one, two = new_stack("aws"), new_stack("aws")
    one.up()
    two.up()
    one.aws("s3").create_bucket(Bucket="bucket-of-one")
    assert two.aws("s3").list_buckets()["Buckets"] == []
    one.down()
    assert two.run("status").returncode == 0


def test_killed_supervisor_is_reported_and_replaced(
    new_stack: Callable[..., StackRun],
) -> None:
    """`status` names the processes it left; `up` stops them so that they save, and starts a new one."""
    run = new_stack("aws")
    run.up()
    make_table(run, "kept-table")
    left = run.components()["aws"]["pid"]
    os.kill(run.supervisor_pid(), signal.SIGKILL)
    wait_until(
        lambda: stack_processes(run.state_directory, role=SUPERVISOR_ROLE) == [],
        seconds=10,
        what="supervisor gone",
    )
    status = run.run("status")
    assert status.returncode == 1
    assert f"The supervisor is dead. Processes it left running: {left}" in status.stdout
    said = run.up()
    assert "Lost" not in said
    assert has_item(run, "kept-table")
    assert len(stack_processes(run.state_directory, role=SUPERVISOR_ROLE)) == 1


def test_down_stops_processes_of_a_killed_supervisor(new_stack: Callable[..., StackRun]) -> None:
    """`down` does not need a supervisor to stop the stack's processes."""
    run = new_stack("aws")
    run.up()
    os.kill(run.supervisor_pid(), signal.SIGKILL)
    assert "Stopped 1 processes that the supervisor left running" in run.down()


@pytest.mark.parametrize("supervised", [True, False])
def test_down_stops_stack_with_deleted_directory(
    new_stack: Callable[..., StackRun], supervised: bool
) -> None:
    """After `git clean -fdx` on a running stack, `down` still stops it, with or without a supervisor."""
    run = new_stack("aws")
    run.up()
    if not supervised:
        os.kill(run.supervisor_pid(), signal.SIGKILL)
    shutil.rmtree(run.state_directory, ignore_errors=True)
    run.down()
    assert "The stack is up" in run.up()


def test_down_stops_job_without_executor(new_stack: Callable[..., StackRun]) -> None:
    """A job in another session and environment is found by its temporary folder."""
    run = new_stack("aws")
    run.up()
    temporary = run.state_directory / "state" / "jobs" / "a-job" / "tmp"
    temporary.mkdir(parents=True)
    job = subprocess.Popen(["sleep", "300"], env={"TMPDIR": str(temporary)}, start_new_session=True)
    try:
        assert [process.pid for process in stack_processes(run.state_directory, role="jobs")] == [job.pid]
        run.down()
        assert job.wait(timeout=10) == -signal.SIGTERM
    finally:
        job.kill()
        job.wait(timeout=10)


def test_up_reports_loss_after_crash_of_the_whole_stack(new_stack: Callable[..., StackRun]) -> None:
    """Without a supervisor to report it, `up` sees the loss in the status file."""
    run = new_stack("aws")
    run.up()
    os.kill(run.supervisor_pid(), signal.SIGKILL)
    os.kill(run.components()["aws"]["pid"], signal.SIGKILL)
    said = run.up()
    assert "aws had stopped unexpectedly. Lost: everything written since its start, except S3 objects" in said


def test_up_on_a_running_stack_changes_nothing(whole_run: StackRun) -> None:
    """A second `up` says that the stack is up and starts nothing."""
    before = whole_run.components()
    assert "The stack is up already" in whole_run.up()
    assert whole_run.components() == before


def test_concurrent_ups_start_one_stack(new_stack: Callable[..., StackRun]) -> None:
    """The second `up` waits for the first and finds the stack up."""
    run = new_stack("aws")
    with ThreadPoolExecutor(2) as pool:
        said = [future.result() for future in [pool.submit(run.up) for _ in range(2)]]
    assert sum("The stack is up already" in text for text in said) == 1
    assert len(stack_processes(run.state_directory, role=SUPERVISOR_ROLE)) == 1


def test_up_does_not_keep_the_callers_pipe_open(new_stack: Callable[..., StackRun]) -> None:
    """`up | cat` ends in a shell, because supervisor and components close inherited descriptors."""
    run = new_stack("aws")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" 2>&1 | cat', "bash", *run.command("up")],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert run.components()["aws"]["state"] == "ready"
    assert os.getsid(run.supervisor_pid()) == run.supervisor_pid()


def test_interrupted_up_can_be_repeated(
    new_stack: Callable[..., StackRun],
) -> None:
    """Ctrl-C ends `up` with a hint and without a traceback; the next `up` completes the start."""
    run = new_stack("aws", "snowflake")
    # A non-interactive shell lets background jobs ignore Ctrl-C, which child processes inherit.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        starting = subprocess.Popen(
            run.command("up"),
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert starting.stdout is not None
    assert "Starting in" in starting.stdout.readline()
    starting.send_signal(signal.SIGINT)
    said, _ = starting.communicate(timeout=60)
    assert starting.returncode == 130, said
    assert "interrupted. `mlpipe down` stops what was started." in said
    assert "Traceback" not in said
    run.up()
    assert run.run("status").returncode == 0


def test_closed_output_pipe_does_not_stop_up(new_stack: Callable[..., StackRun]) -> None:
    """With `up | head -1` the stack still starts."""
    run = new_stack("aws")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | true', "bash", *run.command("up")],
        cwd=PROJECT_ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert run.run("status").returncode == 0


def test_components_get_no_caller_secrets_and_listen_on_loopback(
    new_stack: Callable[..., StackRun],
) -> None:
    """Their environment, which Lambdas inherit, excludes the caller's variables; they use 127.0.0.1 only."""
    run = new_stack("aws", "snowflake")
    done = run.run("up", AWS_SESSION_TOKEN="caller", SOME_SECRET="caller", PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stdout
    for process in stack_processes(run.state_directory):
        environment = process.environ()
        assert not {"AWS_SESSION_TOKEN", "SOME_SECRET", "PYTHONDONTWRITEBYTECODE"} & environment.keys()
        listening = [c.laddr[0] for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert set(listening) <= {"127.0.0.1"}
