"""Foreign texts and documents cannot steer the terminal, forge a line or show Python's errors to users."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlpipe_dagster.cli.main import main
from model_declaration.project import Project
from prediction_contract.manifests.load_report import LOADED, LoadReport, QuarantineReport, StoreReport
from prediction_contract.naming.s3_layout import quarantine_prefix
from prediction_contract.rows.checksums import RowTally
from tests.dagster.cli_calls import CommandLine
from tests.dagster.conftest import MINIMAL_ENVIRONMENT
from tests.dagster.foreign_platform import BATCH, LATER, MODEL, ForeignAccess, ForeignStores
from tests.fakes.foreign_documents import PYTHON, other_documents, other_shapes
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path

STEERING = "\x1b]0;owned\x07\x1b[2J\nmlpipe: all is well\r\x9b31m\u202e\u2028\x7f"
COMMANDS = {
    "batches": (MODEL,),
    "show": (MODEL, BATCH),
    "diff": (MODEL, BATCH, LATER),
    "explain": (MODEL, BATCH),
    "quarantine": (MODEL, BATCH, "--rows"),
    "publish": (MODEL, BATCH),
    "rollback": (MODEL,),
    "hold": (MODEL,),
    "load": (f"done/2013-02-01/nobody/{BATCH}.json",),
    "doctor": (MODEL,),
}
# Stores and shells hold UTF-8; an invalid byte reaches a program as half of a surrogate pair.
stored = st.text(st.characters(codec="utf-8"))
typed = st.text(st.characters(codec="utf-8", exclude_characters="\x00") | st.just("\udcff"), min_size=1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of one declared model, in an environment that names a deployment."""
    for name, value in MINIMAL_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    made = new_project(tmp_path / "project")
    CommandLine.declare_in(made.defs / MODEL)
    return made


def run(
    capture: pytest.CaptureFixture[str], project: Project, stores: ForeignStores, *arguments: str
) -> tuple[str, str]:
    """Return what a command writes to standard output and standard error."""
    capture.readouterr()
    # argparse exits if it cannot parse the arguments.
    with suppress(SystemExit):
        main(arguments, ForeignAccess(project, stores))
    return capture.readouterr()


def assert_lines_are_printable(out: str, err: str) -> None:
    """Assert that all lines are printable, and that each line of standard error is the command's own."""
    for line in f"{out}{err}".split("\n"):
        assert line.isprintable(), line
    assert all(line.startswith(("mlpipe ", "mlpipe: error: ", "usage: ", " ")) for line in err.splitlines())


shared = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@shared
@given(text=stored)
@example(text=STEERING)
def test_stored_text_cannot_steer_the_terminal(
    project: Project, capsys: pytest.CaptureFixture[str], command: str, form: tuple[str, ...], text: str
) -> None:
    """Whatever the registry, S3, Glue or Snowflake returns, printed lines stay lines."""
    halved = f"{text}\ud800"
    document = json.dumps({"batch_id": halved, halved: halved, "model": halved}).encode()
    stores = ForeignStores(text, lambda _key: document)
    out, err = run(capsys, project, stores, command, *COMMANDS[command], *form)
    assert_lines_are_printable(out, err)
    if form and out:
        json.loads(out)


@pytest.mark.parametrize("command", COMMANDS)
@shared
@given(words=st.lists(typed, max_size=4))
@example(words=[STEERING])
@example(words=["a", "b", STEERING, "d"])
@example(words=[f"--{STEERING}", "b", "c"])
def test_typed_words_cannot_steer_the_terminal(
    project: Project, capsys: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    """Arguments may come from a script that passes on foreign text."""
    out, err = run(capsys, project, ForeignStores(""), command, *words)
    assert_lines_are_printable(out, err)


@shared
@given(text=st.text())
@example(text=f"{STEERING}\ud800")
def test_api_response_cannot_steer_the_terminal(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """`mlpipe explain` quotes the file's differences from the registry without control characters."""
    members = {"batch_id": BATCH, "partition": text, "model_version": text, "published_at": text}
    file = tmp_path / "answer.json"
    file.write_text(json.dumps({"model": MODEL, "entity_id": text, "provenance": members}))
    for form in ((), ("--json",)):
        out, err = run(capsys, project, ForeignStores(""), "explain", str(file), *form)
        assert_lines_are_printable(out, err)
        assert "the answer contradicts the records" in err
    assert json.loads(out)["answer"]["partition"] == text


REPORT = LoadReport(
    status=LOADED,
    model=MODEL,
    batch_id=BATCH,
    attempt=1,
    job_run_id="jr_1",
    manifest_digest="a" * 64,
    started_at="2026-11-23T01:02:03Z",
    ended_at="2026-11-23T01:02:09Z",
    items_expire_at=1,
    dynamodb=StoreReport(table="t", rows=RowTally(rows=2, checksum=1), verified_rows=2),
    snowflake=StoreReport(table="T", rows=RowTally(rows=2, checksum=1), verified_rows=2),
    quarantine=QuarantineReport(
        rows=RowTally(rows=1, checksum=1),
        reasons={"unparsable": 1},
        keys=(f"{quarantine_prefix(MODEL, BATCH, 1)}part-00000.jsonl.gz",),
    ),
)


def assert_no_python_error(out: str, err: str) -> None:
    """Assert that neither stream contains a phrase of the interpreter."""
    assert not PYTHON.search(f"{out}{err}"), f"{out}{err}"


@pytest.mark.parametrize("command", COMMANDS)
def test_invalid_document_is_a_readable_error(
    project: Project, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """No command shows a Python error for an object that is not a manifest or a report."""
    for content in other_documents():
        stores = ForeignStores("", lambda _key, content=content: content)
        assert_no_python_error(*run(capsys, project, stores, command, *COMMANDS[command]))


def test_malformed_quarantine_is_a_readable_error(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines of another writer or a truncated file do not show a Python error."""
    line = {
        "part": "p",
        "line": 1,
        "reason": "unparsable",
        "what": "Not JSON",
        "content": "{",
        "row_checksum": 1,
    }
    whole = gzip.compress(json.dumps(line).encode())
    contents = [
        *(gzip.compress(content) for content in (*other_documents(), *other_shapes(line))),
        b"{}",
        whole[:20],
        whole + b"x",
    ]
    for content in contents:
        stores = ForeignStores(
            "", lambda key, content=content: REPORT.to_bytes() if key.startswith("reports/") else content
        )
        assert_no_python_error(*run(capsys, project, stores, "quarantine", *COMMANDS["quarantine"]))


def test_malformed_response_is_a_readable_error(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`mlpipe explain` says which member has the wrong form."""
    members = {"batch_id": BATCH, "partition": "2013-02-01", "sequence": 1}
    file = tmp_path / "answer.json"
    answer = {"model": MODEL, "entity_id": "a", "provenance": members}
    for content in (*other_documents(), *other_shapes(answer)):
        file.write_bytes(content)
        assert_no_python_error(*run(capsys, project, ForeignStores(""), "explain", str(file)))
    file.write_text('{"model": "tides", "provenance": [1]}')
    _, err = run(capsys, project, ForeignStores(""), "explain", str(file))
    assert "provenance is a list, not an object" in err
