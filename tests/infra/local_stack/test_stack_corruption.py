"""Unreadable state is reported and left unchanged; another program's server is not mistaken for ours."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from infra.local.supervision.components import Component
from infra.local.supervision.ministack_state import check_saved_state, unsaved_state
from infra.local.supervision.processes import clean_environment
from infra.local.supervision.readiness import answers_http
from infra.local.supervision.stack_state import StackDirectory, StackError, choose_ports
from infra.local.supervision.supervised_component import SupervisedComponent
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stack_runs import StackRun

# A truncated file, and one in the format of a later ministack release.
UNREADABLE_AWS_STATES = ['{"tables": ', '{"__ministack_format__": 99, "payload": {"tables": {}}}']


class AlwaysOkHandler(BaseHTTPRequestHandler):
    """Answers every request with 200, like the server of another checkout."""

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Keep the test's output clean."""


@contextmanager
def foreign_server(port: int) -> Iterator[None]:
    """Serve 200 on the port from this process, which is not part of the stack."""
    with ThreadingHTTPServer(("127.0.0.1", port), AlwaysOkHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.stack
@pytest.mark.parametrize("text", UNREADABLE_AWS_STATES)
def test_corrupt_aws_state_stops_up_and_is_kept(new_stack: Callable[..., StackRun], text: str) -> None:
    """`up` names the file and refuses, because the emulator would start empty and overwrite it."""
    run = new_stack("aws")
    file = run.state_directory / "state" / "aws" / "services" / "dynamodb.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    done = run.run("up")
    assert done.returncode == 1
    assert "dynamodb" in done.stdout
    assert re.search("Restore (it|them) from a copy", done.stdout)
    run.down()
    assert file.read_text() == text
    file.unlink()
    run.up()


@pytest.mark.stack
def test_broken_database_stops_up_and_is_kept(
    new_stack: Callable[..., StackRun],
) -> None:
    """`up` names the file and the remedy; after the file is moved away, `up` succeeds."""
    run = new_stack("aws", "snowflake")
    file = run.state_directory / "state" / "snowflake" / "BROKEN.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a database" * 1000)
    done = run.run("up")
    assert done.returncode == 1
    assert f"The database file {file} does not open" in done.stdout
    assert "It was left untouched. Restore it from a copy, or move it" in done.stdout
    assert file.read_bytes() == b"not a database" * 1000
    file.rename(file.with_suffix(".away"))
    run.up()


@pytest.mark.stack
@pytest.mark.parametrize("name", ["ports.json", "status.json"])
@pytest.mark.parametrize("text", ["{", '{"aws": "many"}'])
def test_unreadable_stack_record_stops_up_and_is_kept(
    new_stack: Callable[..., StackRun], name: str, text: str
) -> None:
    """`up` never replaces a record by a guess: it names the file and the remedy."""
    run = new_stack("aws")
    run.state_directory.mkdir()
    file = run.state_directory / name
    file.write_text(text)
    done = run.run("up")
    assert done.returncode == 1
    assert str(file) in done.stdout
    assert "elete it" in done.stdout
    assert file.read_text() == text
    file.unlink()


@pytest.mark.stack
def test_port_taken_by_other_program_is_reported(new_stack: Callable[..., StackRun]) -> None:
    """`up` names the process that took the port; after `down`, the component gets another port."""
    run = new_stack("aws")
    run.up()
    port = run.components()["aws"]["port"]
    os.kill(run.components()["aws"]["pid"], signal.SIGKILL)
    wait_until(lambda: run.components()["aws"]["state"] == "dead", seconds=5, what="noticed")
    with foreign_server(port):
        done = run.run("up")
        assert done.returncode == 1
        assert f"port {port} is in use by process {os.getpid()}" in done.stdout
        run.down()
        run.up()
        assert run.components()["aws"]["port"] != port


def test_answer_of_foreign_process_does_not_mean_ready(tmp_path: Path) -> None:
    """A component must itself listen on its port; an answer from another process is not enough."""
    directory = StackDirectory(tmp_path)
    directory.create()
    port = choose_ports(directory, ["weather"])["weather"]
    component = Component(
        name="weather",
        title="a server that never listens",
        command=(sys.executable, "-c", "import time; time.sleep(120)"),
        environment=clean_environment(tmp_path, "weather"),
        port=port,
        probe=partial(answers_http, port, "/health"),
        loss="nothing",
        ready_seconds=1,
    )
    supervised = SupervisedComponent(component, directory)
    supervised.advance(())
    with foreign_server(port):
        assert component.probe() is None

        def failed() -> bool:
            supervised.advance(())
            return supervised.status.state == "failed"

        wait_until(failed, seconds=20, what="failed")
    assert f"its process does not listen on 127.0.0.1:{port}" in supervised.status.detail


def test_silent_component_does_not_block_supervisor(tmp_path: Path) -> None:
    """A probe that waits for its answer does not hold up the supervisor's rounds."""
    directory = StackDirectory(tmp_path)
    directory.create()
    port = choose_ports(directory, ["weather"])["weather"]
    asked, answered = threading.Event(), threading.Event()

    def silent() -> str | None:
        asked.set()
        return None if answered.wait(60) else "silent"

    component = Component(
        name="weather",
        title="a server that takes its time",
        command=(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"),
        environment=clean_environment(tmp_path, "weather"),
        port=port,
        probe=silent,
        loss="nothing",
    )
    supervised = SupervisedComponent(component, directory)

    def reaches(state: str, event: threading.Event | None = None) -> Callable[[], bool]:
        def look() -> bool:
            began = time.monotonic()
            supervised.advance(())
            assert time.monotonic() - began < 30, "the round waited for the probe's answer"
            return supervised.status.state == state and (event is None or event.is_set())

        return look

    try:
        wait_until(reaches("starting", asked), seconds=40, what="asked")
        answered.set()
        wait_until(reaches("ready"), seconds=40, what="ready")
    finally:
        supervised.ask_to_stop()
        supervised.finish_stop(deadline=0, on_progress=lambda: None)


def test_every_saved_state_file_is_checked(tmp_path: Path) -> None:
    """A missing folder and good files pass; truncated or invalid ones are named."""
    objects = tmp_path / "s3"
    check_saved_state(tmp_path / "absent", objects)
    (tmp_path / "s3.json").write_text('{"__ministack_format__": 2, "payload": {}}')
    check_saved_state(tmp_path, objects)
    (tmp_path / "sqs.json").write_bytes(b'{"queues": "\xff')
    with pytest.raises(StackError, match=r"sqs\.json cannot be read"):
        check_saved_state(tmp_path, objects)
    (tmp_path / "sqs.json").write_text("[]")
    with pytest.raises(StackError, match=r"sqs\.json is not a JSON object"):
        check_saved_state(tmp_path, objects)


def test_damaged_key_or_metadata_is_named(tmp_path: Path) -> None:
    """The emulator would replace a damaged key and lose damaged metadata; stored objects are not checked."""
    services, objects = tmp_path / "services", tmp_path / "s3"
    services.mkdir()
    objects.mkdir()
    (objects / "named.meta.json").write_text("an object that bears such a name")
    (objects / "one.json").write_text("{}")
    (objects / "one.json.meta.json").write_text('{"metadata": {}}')
    (services / "cognito-rsa-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    check_saved_state(services, objects)
    (objects / "one.json.meta.json").write_text('{"metadata": ')
    with pytest.raises(StackError, match=r"one\.json\.meta\.json cannot be read"):
        check_saved_state(services, objects)
    (objects / "one.json.meta.json").unlink()
    (services / "cognito-rsa-key.pem").write_text("garbage")
    with pytest.raises(StackError, match=r"cognito-rsa-key\.pem is not a PEM key"):
        check_saved_state(services, objects)


def test_failed_save_is_found_in_current_log_only(tmp_path: Path) -> None:
    """Log lines of earlier starts are ignored."""
    log = tmp_path / "aws.log"
    log.write_text("ERROR Persistence: failed to save sqs: No space left\n")
    offset = log.stat().st_size
    assert unsaved_state(log, offset=offset) is None
    with log.open("a") as stream:
        stream.write("INFO fine\nERROR Persistence: failed to save s3: No space left\n")
    assert unsaved_state(log, offset=offset) == "ERROR Persistence: failed to save s3: No space left"


def test_recorded_ports_are_reused_unless_taken(tmp_path: Path) -> None:
    """A taken port is replaced; the other components keep the ports that clients know."""
    directory = StackDirectory(tmp_path)
    directory.create()
    first = choose_ports(directory, ["aws", "jobs"])
    assert choose_ports(directory, ["aws", "jobs"]) == first
    with foreign_server(first["aws"]):
        second = choose_ports(directory, ["aws", "jobs"])
    assert second["jobs"] == first["jobs"]
    assert second["aws"] not in first.values()
