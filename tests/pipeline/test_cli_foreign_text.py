"""Texts and documents of others: no command lets them steer the terminal, forge a line, or speak Python."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlpipe_dagster.cli.main import main
from tests.pipeline.cli_calls import CommandLine
from tests.pipeline.conftest import MINIMAL_ENVIRONMENT
from tests.pipeline.foreign_platform import BATCH, LATER, MODEL, ForeignAccess, ForeignStores

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
# Stores and shells hold UTF-8; a byte that is none reaches a program as half of a surrogate pair.
stored = st.text(st.characters(codec="utf-8"))
typed = st.text(st.characters(codec="utf-8", exclude_characters="\x00") | st.just("\udcff"), min_size=1)


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one declared model, in an environment that names a deployment."""
    for name, value in MINIMAL_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    CommandLine.declare_in(tmp_path / "defs" / MODEL)
    return tmp_path / "defs"


def run(
    capture: pytest.CaptureFixture[str], definitions: Path, stores: ForeignStores, *arguments: str
) -> tuple[str, str]:
    """Return what a command writes to standard output and standard error."""
    capture.readouterr()
    # What was typed may not be parsed.
    with suppress(SystemExit):
        main(arguments, ForeignAccess(definitions, stores))
    return capture.readouterr()


def see_that_nothing_steers(out: str, err: str) -> None:
    """No line holds what is not printable, and each of standard error is the command's own."""
    for line in f"{out}{err}".split("\n"):
        assert line.isprintable(), line
    assert all(line.startswith(("mlpipe ", "mlpipe: error: ", "usage: ", " ")) for line in err.splitlines())


shared = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@shared
@given(text=stored)
@example(text=STEERING)
def test_no_text_of_a_store_steers_the_terminal(
    definitions: Path, capsys: pytest.CaptureFixture[str], command: str, form: tuple[str, ...], text: str
) -> None:
    """Registry, S3, Glue, Snowflake: whatever stands there or is answered, lines stay lines."""
    halved = f"{text}\ud800"
    document = json.dumps({"batch_id": halved, halved: halved, "model": halved}).encode()
    stores = ForeignStores(text, lambda _key: document)
    out, err = run(capsys, definitions, stores, command, *COMMANDS[command], *form)
    see_that_nothing_steers(out, err)
    if form and out:
        json.loads(out)


@pytest.mark.parametrize("command", COMMANDS)
@shared
@given(words=st.lists(typed, max_size=4))
@example(words=[STEERING])
@example(words=["a", "b", STEERING, "d"])
@example(words=[f"--{STEERING}", "b", "c"])
def test_no_word_that_was_typed_steers_the_terminal(
    definitions: Path, capsys: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    """A word comes from a script as often as from a keyboard."""
    out, err = run(capsys, definitions, ForeignStores(""), command, *words)
    see_that_nothing_steers(out, err)


@shared
@given(text=st.text())
@example(text=f"{STEERING}\ud800")
def test_no_answer_of_an_api_steers_the_terminal(
    definitions: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """`mlpipe explain` tells where a file disagrees with the registry, in the file's words."""
    members = {"batch_id": BATCH, "partition": text, "model_version": text, "published_at": text}
    file = tmp_path / "answer.json"
    file.write_text(json.dumps({"model": MODEL, "entity_id": text, "provenance": members}))
    for form in ((), ("--json",)):
        out, err = run(capsys, definitions, ForeignStores(""), "explain", str(file), *form)
        see_that_nothing_steers(out, err)
        assert "the answer does not agree" in err
    assert json.loads(out)["answer"]["partition"] == text
