"""A state that cannot be read is reported with what to do and left as it is; a foreign server is not ours."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
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

# What ministack writes of a service it cannot restore, and what a newer release of it would have written.
UNREADABLE_AWS_STATES = ['{"tables": ', '{"__ministack_format__": 99, "payload": {"tables": {}}}']


class AlwaysWell(BaseHTTPRequestHandler):
    """Answers every request with 200, as another checkout's server would."""

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Write nothing into the test's output."""


@contextmanager
def foreign_server(port: int) -> Iterator[None]:
    """Serve 200 on the port from this process, which is none of the stack's."""
    with ThreadingHTTPServer(("127.0.0.1", port), AlwaysWell) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.stack
@pytest.mark.parametrize("text", UNREADABLE_AWS_STATES)
def test_a_corrupt_aws_state_stops_up_and_stays_untouched(
    new_stack: Callable[..., StackRun], text: str
) -> None:
    """The emulator would start empty and overwrite the file at its stop: `up` refuses and names the file."""
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
def test_a_database_that_does_not_open_stops_up_and_stays_untouched(
    new_stack: Callable[..., StackRun],
) -> None:
    """`up` names the file and what to do; once it is moved away a running supervisor goes on."""
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
def test_an_unreadable_record_stops_up_and_stays_untouched(
    new_stack: Callable[..., StackRun], name: str, text: str
) -> None:
    """A record of the stack is never replaced by a guess: `up` names the file and says what to do."""
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
def test_a_port_taken_while_a_component_was_dead_is_reported(new_stack: Callable[..., StackRun]) -> None:
    """A foreign server that answers in its place is named, not taken for it; a new start moves away."""
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


def test_an_answer_from_a_foreign_process_does_not_make_a_component_ready(tmp_path: Path) -> None:
    """Ready is who holds the port: a component that does not listen fails although the port answers."""
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


def test_a_component_that_does_not_answer_hides_no_other(tmp_path: Path) -> None:
    """Asking a silent component takes the supervisor no time, so that a death elsewhere is told in time."""
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
            supervised.advance(())
            return supervised.status.state == state and (event is None or event.is_set())

        return look

    try:
        took = wait_until(reaches("starting", asked), seconds=40, what="asked")
        assert took < 40
        answered.set()
        wait_until(reaches("ready"), seconds=40, what="ready")
    finally:
        supervised.ask_to_stop()
        supervised.finish_stop(deadline=0, on_progress=lambda: None)


def test_every_saved_state_file_is_read_before_the_emulator_does(tmp_path: Path) -> None:
    """A good file and none at all pass; a truncated one is named."""
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


def test_damaged_keys_and_object_records_are_named(tmp_path: Path) -> None:
    """The emulator would make a new signing key, and forget an object's metadata; an object is no record."""
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


def test_a_stop_that_did_not_save_is_found_in_this_starts_lines_only(tmp_path: Path) -> None:
    """What an earlier start logged does not count."""
    log = tmp_path / "aws.log"
    log.write_text("ERROR Persistence: failed to save sqs: No space left\n")
    offset = log.stat().st_size
    assert unsaved_state(log, offset=offset) is None
    with log.open("a") as stream:
        stream.write("INFO fine\nERROR Persistence: failed to save s3: No space left\n")
    assert unsaved_state(log, offset=offset) == "ERROR Persistence: failed to save s3: No space left"


def test_recorded_ports_are_used_again_unless_taken(tmp_path: Path) -> None:
    """A port in use by someone else is left to them; the others stay where clients know them."""
    directory = StackDirectory(tmp_path)
    directory.create()
    first = choose_ports(directory, ["aws", "jobs"])
    assert choose_ports(directory, ["aws", "jobs"]) == first
    with foreign_server(first["aws"]):
        second = choose_ports(directory, ["aws", "jobs"])
    assert second["jobs"] == first["jobs"]
    assert second["aws"] not in first.values()
