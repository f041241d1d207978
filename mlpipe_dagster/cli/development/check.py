"""`mlpipe check`: finds faults of the project before anything is started."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command
from mlpipe_dagster.cli.options import partition as partition_option

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

_FAULT = ("model", "where", "what", "remedy")
_LATER = ("model", "source", "column", "rows")
_LATER_TITLE = "times after the partition began, in sources without known_at: were they known before?"
_LEAK = ("model", "partition", "rows", "later_files", "later_rows", "leaks", "what")


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "check", check)
    command.add_argument("model", nargs="?", help="look for leaks of this model only")
    command.add_argument(
        "--leaks",
        action="store_true",
        help="prepare features with all sample data and without later data, and compare them",
    )
    command.add_argument(
        "--partition",
        type=partition_option,
        help="the partition to check for leaks; by default the one before the newest",
    )


def check(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Check the project's declarations, functions, lock files and stages, and look for leaks."""
    # Imported here, because it imports pydantic, which few commands need.
    from mlpipe_dagster.cli.development.project_faults import project_faults  # noqa: PLC0415

    if options.model:
        access.require_declared(options.model)
    faults = [asdict(fault) for fault in project_faults(access.project)]
    leaks = [] if faults or not options.leaks else _leaks(options, access)
    ok = not faults and not any(each["leaks"] or each["error"] for each in leaks)
    document = {"ok": ok, "project": str(access.project.root), "models": access.models(), "faults": faults}
    return CommandResult(
        document={**document, **({"leaks": leaks} if options.leaks else {})},
        sections=[
            Fields(members={"right": ok, "project": document["project"], "models": document["models"]}),
            Table(title="faults", columns=_FAULT, rows=faults, whole=frozenset(_FAULT)),
            *(_leak_tables(leaks, with_faults=bool(faults)) if options.leaks else ()),
        ],
        ok=ok,
    )


def _leaks(options: argparse.Namespace, access: DeploymentAccess) -> list[dict[str, Any]]:
    models = [options.model] if options.model else access.models()
    return [_leaks_of(access.declaration(model), options.partition, access) for model in models]


def _leaks_of(declaration: ModelDeclaration, asked: str | None, access: DeploymentAccess) -> dict[str, Any]:
    from mlpipe_dagster.cli.development.sample_coverage import SampleCoverage  # noqa: PLC0415  # as above
    from mlpipe_dagster.cli.development.trial_process import TrialData, run_trial  # noqa: PLC0415
    from model_declaration.sample_data import sample_data_folder  # noqa: PLC0415

    partition = asked or SampleCoverage(declaration, sample_data_folder(access.project)).with_later_data()
    answer = run_trial(access.project, declaration, TrialData(), action="leaks", partition=partition)
    nothing = {"partition": partition, "rows": None, "taken_away": None, "later_times": [], "leaks": []}
    return {"model": declaration.name, **nothing, "error": None, **answer}


def _leak_tables(leaks: Sequence[dict[str, Any]], *, with_faults: bool) -> list[Table]:
    examined = [
        {
            **each,
            "later_files": (each["taken_away"] or {}).get("files"),
            "later_rows": (each["taken_away"] or {}).get("rows"),
            "leaks": len(each["leaks"]),
            "what": (each["error"] or {}).get("what"),
        }
        for each in leaks
    ]
    found = [
        {"model": each["model"], "partition": each["partition"], **leak}
        for each in leaks
        for leak in each["leaks"]
    ]
    columns = ("model", "partition", "function", "entity", "column", "entities", "what")
    nothing = "not checked: correct the faults first" if with_faults else "none"
    tables = [
        Table(
            title="checked for leaks", columns=_LEAK, rows=examined, whole=frozenset({"what"}), empty=nothing
        )
    ]
    lines = [
        {"model": each["model"], "line": line}
        for each in leaks
        for line in (each["error"] or {}).get("lines", ())
    ]
    if lines:
        tables.append(
            Table(
                title="lines of your code", columns=("model", "line"), rows=lines, whole=frozenset({"line"})
            )
        )
    later = [{"model": each["model"], **times} for each in leaks for times in each["later_times"]]
    if later:
        tables.append(Table(title=_LATER_TITLE, columns=_LATER, rows=later, whole=frozenset(_LATER)))
    if found:
        tables.append(Table(title="leaks", columns=columns, rows=found, whole=frozenset({"what", "entity"})))
    return tables
