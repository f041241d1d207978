"""Each command's JSON has the members that docs/cli.md documents."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from mlpipe_dagster.cli.main import parser
from prediction_contract.manifests.manifest import InputObject, Inputs
from prediction_contract.registry.records import BatchRecord
from tests.dagster.cli.documented_answers import DOCS, agree, documented
from tests.dagster.versions.registered_packages import RegisteredPackages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dagster.cli_calls import CommandLine
    from tests.dagster.small_model import SmallModel

_COMMAND = re.compile(r"mlpipe ([a-z-]+)((?: [^`\n]*)?)")


def test_comparison_finds_missing_members() -> None:
    """Members are compared at any depth, except below an empty list."""
    agree({"a": [{"b": 1}]}, {"a": []})
    with pytest.raises(AssertionError):
        agree({"a": [{"b": 1}]}, {"a": [{"c": 1}]})
    with pytest.raises(AssertionError):
        agree({"a": None}, {"b": None})


def test_documented_commands_can_be_parsed() -> None:
    """Every command and option that the documents name exists."""
    commands = parser()
    for document in ("operations.md", "recovery.md", "cli.md", "model-versions.md"):
        for name, rest in _COMMAND.findall((DOCS / document).read_text(encoding="utf-8")):
            (choices,) = [action.choices for action in commands._actions if action.dest == "name"]
            assert choices is not None
            assert name in choices, name
            for option in re.findall(r"--[a-z0-9-]+", rest):
                command: Any = dict(choices)[name]
                assert option in command._option_string_actions, (document, name, option)


@pytest.mark.stack
def test_output_about_batches_has_the_documented_members(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program written against docs/cli.md finds the members that it reads."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    name, documents = small_model.name, documented()
    first = small_model.verified_batch(partition="2013-01-31")
    features = InputObject(f"features/{name}/dt=2013-02-01/run=r/features.parquet", "b" * 64)
    second = small_model.verified_batch(
        previous_batch_id=first,
        inputs=Inputs((features,), InputObject("models/x/y/output/model.tar.gz", "c" * 64)),
    )
    agree(documents["publish"], command_line.json("publish", name, first).document)
    command_line.json("publish", name, second)
    agree(documents["batches"], command_line.json("batches", name).document)
    shown = command_line.json("show", name, second).document
    agree(documents["show"], shown)
    assert shown["record"].keys() == set(BatchRecord.__dataclass_fields__) - {"claim_token"} | {"is_claimed"}
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"model": name, "provenance": {"batch_id": second, "sequence": 2}}))
    agree(documents["explain"], command_line.json("explain", str(answer)).document)
    agree(documents["diff"], command_line.json("diff", name, first, second).document)
    doctor = command_line.json("doctor", name).document
    assert doctor["findings"]
    agree(documents["doctor"], doctor)


@pytest.mark.stack
def test_output_about_versions_has_the_documented_members(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """A program may also rely on the documented JSON of `models` and `promote`."""
    name, documents = small_model.name, documented()
    registered = RegisteredPackages(small_model.platform, name)
    for execution in ("exec1", "exec2"):
        version = registered.register(execution)
        agree(documents["promote"], command_line.json("promote", name, str(version)).document)
    agree(documents["models"], command_line.json("models", name).document)
