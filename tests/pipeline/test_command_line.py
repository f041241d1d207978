"""The `mlpipe` command on a real registry: what a person types, and what a program reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlpipe_dagster.cli import declared_models
from mlpipe_dagster.cli import main as command_line
from tests.pipeline.small_model import SmallModel, attributes

if TYPE_CHECKING:
    from mlpipe_dagster.declaration import ModelDeclaration

pytestmark = pytest.mark.stack


@pytest.fixture
def command(
    small_model: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Return a function that runs a command and returns its status, its document and its error."""
    folder = tmp_path / "defs" / small_model.name
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(yaml.safe_dump({"attributes": attributes()}), encoding="utf-8")
    read = declared_models.declared_model

    def declared(name: str) -> ModelDeclaration:
        return read(name, tmp_path / "defs")

    monkeypatch.setattr(command_line, "declared_model", declared)
    # No `.env` of the checkout may have a say.
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> tuple[int, Any, str]:
        status = command_line.main([name, small_model.name, *arguments, "--json"])
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if printed.out else None, printed.err

    yield run
    shutil.rmtree(folder)


def test_publish_rollback_and_forward_again(small_model: SmallModel, command: Any) -> None:
    """Each command says what is live now, and Snowflake's projection follows it."""
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    for batch_id in (first, second):
        status, shown, _ = command("publish", batch_id)
        assert (status, shown["live_batch_id"]) == (0, batch_id)
    status, shown, _ = command("rollback")
    assert (status, shown["live_batch_id"], shown["sequence"], shown["newly_projected"]) == (0, first, 3, 1)
    status, shown, _ = command("publish", second)
    assert (status, shown["live_batch_id"]) == (0, second)
    _, listed, _ = command("batches")
    assert {row["batch_id"]: row["release_state"] for row in listed} == {first: "superseded", second: "live"}


def test_hold_and_release(command: Any) -> None:
    """Holding needs no batch, and is undone by its release."""
    assert command("hold")[1]["hold"] is True
    assert command("hold", "--release")[1]["hold"] is False


def test_an_unknown_batch_is_an_error_in_words(command: Any) -> None:
    """The status is 1, and the message says what to look at."""
    status, shown, error = command("publish", "20261123T010203Z-ffffffff")
    assert (status, shown) == (1, None)
    assert "mlpipe batches" in error


def test_an_aws_error_is_said_in_words(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that is down gives a line and a status, and no stack trace."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    status, shown, error = command("batches")
    assert (status, shown) == (1, None)
    assert "127.0.0.1:1" in error
