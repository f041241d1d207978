"""Commands in the documentation can be run as written: programs know each command and option."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from mlpipe_dagster.cli.main import parser
from tests.wiring.documented_commands import (
    DOCUMENTS,
    commands_in,
    mentioned_commands,
    name_of,
    typed_commands,
)

# The AWS CLI names two services differently from botocore and has commands that are not API calls.
_OTHERWISE = {"deploy": "codedeploy", "s3api": "s3"}
_OF_THE_CLIENT = {("s3", "cp"), ("logs", "tail"), ("ecr", "get-login-password")}
_OF_EVERY_CALL = {"--region", "--query", "--output"}


@cache
def our_parser() -> argparse.ArgumentParser:
    """Return the parser of `mlpipe`, built once."""
    return parser()


@cache
def aws_session() -> botocore.session.Session:
    """Return a botocore session, which knows all services."""
    return botocore.session.get_session()


@cache
def service_model(name: str) -> Any:
    """Return botocore's model of a service, loaded once."""
    return aws_session().get_service_model(name)


def commands_of(command_line: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands of a parser, if it has any."""
    for action in command_line._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def unknown_words(words: list[str]) -> list[str]:
    """Return the command name or the options that `mlpipe` does not know."""
    command_line = our_parser()
    for word in words:
        below = commands_of(command_line)
        if not below:
            break
        if word in below:
            command_line = below[word]
        elif not word.startswith("--") and command_line.prog == "mlpipe":
            return [word]
    options = [word for word in words if word.startswith("--")]
    return [option for option in options if option not in command_line._option_string_actions]


def faults_of_call(words: list[str]) -> list[str]:
    """Return what the AWS CLI would refuse: service, operation, unknown and missing options."""
    service, operation = words[0], words[1]
    if (service, operation) in _OF_THE_CLIENT:
        return []
    session = aws_session()
    name = _OTHERWISE.get(service, service)
    if name not in session.get_available_services() or service in _OTHERWISE.values():
        return [service]
    if operation == "wait":
        waiters = session.get_component("data_loader").load_service_model(name, "waiters-2")["waiters"]
        return [words[2]] if words[2] not in {xform_name(waiter, "-") for waiter in waiters} else []
    model: Any = service_model(name)
    operations = {xform_name(each, "-"): each for each in model.operation_names}
    if operation not in operations:
        return [f"{service} {operation}"]
    shape: Any = model.operation_model(operations[operation]).input_shape
    members = dict(shape.members) if shape else {}
    known = {f"--{xform_name(member, '-')}" for member in members}
    needed = {
        f"--{xform_name(member, '-')}"
        for member in (shape.required_members if shape else ())
        # The AWS CLI generates this token itself.
        if "idempotencyToken" not in members[member].metadata
    }
    given = {word for word in words if word.startswith("--")}
    if any(word.startswith("$") for word in words):
        # The variable holds further options.
        needed = set()
    # `--no-` turns a flag off.
    unknown = {word for word in given if f"--{word.removeprefix('--no-')}" not in known} - known
    return sorted(unknown - _OF_EVERY_CALL) + sorted(f"no {option}" for option in needed - given)


def test_commands_are_found_in_a_script() -> None:
    """Line continuations, pipes, loops, functions, quotes and nested commands are parsed as by a shell."""
    script = (
        "f() { aws a b \\\n  --c 'd | e'; }\n"
        'for x in 1; do\n  aws g h --i "$(mlpipe k <batch>)" # l\ndone\n'
        "mlpipe m < n | jq -r '. | o' && mlpipe p"
    )
    found = commands_in(script)
    assert [words for words in found if words[0] in {"aws", "mlpipe"}] == [
        ["aws", "a", "b", "--c", "d | e"],
        ["aws", "g", "h", "--i", "substituted"],
        ["mlpipe", "m"],
        ["mlpipe", "p"],
        ["mlpipe", "k", "20130202T060000Z-0123abcd"],
    ]


def test_invalid_calls_are_found() -> None:
    """Unknown services, operations and options are reported, and so are missing required options."""
    assert faults_of_call(["codedeploy", "list-applications"]) == ["codedeploy"]
    assert faults_of_call(["glue", "start-jobs"]) == ["glue start-jobs"]
    assert faults_of_call(["glue", "start-job-run", "--name", "x"]) == ["--name", "no --job-name"]
    assert faults_of_call(["dynamodb", "wait", "table-is-there"]) == ["table-is-there"]
    assert unknown_words(["bathces"]) == ["bathces"]
    assert unknown_words(["models", "register", "--jsn"]) == ["--jsn"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_typed_mlpipe_commands_can_be_parsed(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mlpipe` commands in console blocks have all their arguments in the right form."""
    typed = typed_commands(document.read_text(encoding="utf-8"))
    refused = []
    for words in typed:
        if words[0] in {"mlpipe", "$mlpipe"}:
            try:
                our_parser().parse_args(words[1:])
            except SystemExit:
                refused.append((words, capsys.readouterr().err))
    assert refused == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_mentioned_mlpipe_commands_exist(document: Path) -> None:
    """`mlpipe` commands in running text exist and have the named options."""
    mentioned = mentioned_commands(document.read_text(encoding="utf-8"), "mlpipe")
    # `mlpipe command` is a placeholder for any command.
    named = [words[1:] for words in mentioned if words[1] != "command"]
    assert [words for words in named if unknown_words(words)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_typed_aws_commands_are_valid(document: Path) -> None:
    """Services, operations and options are in AWS's own models, and no required option is missing."""
    typed = typed_commands(document.read_text(encoding="utf-8"))
    calls = [words[1:] for words in typed if words[0] == "aws"]
    assert {" ".join(call): faults for call in calls if (faults := faults_of_call(call))} == {}
