"""Commands on the local stack and on the project's code: each one becomes a program of the platform."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlpipe_dagster.cli.options import add_project
from mlpipe_dagster.installed_platform import PLATFORM, program_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlpipe_dagster.cli.options import Commands
    from model_declaration.project import Project


@dataclass(frozen=True)
class PlatformProgram:
    """A command that a program of the platform carries out.

    Attributes:
        name: The command.
        summary: What it does, in one line.
        module: The program, run as `python -m <module>`.
        words: Its first arguments.
        options: What it takes, as argparse's `add_argument` does, by option.
    """

    name: str
    summary: str
    module: str
    words: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def add_to(self, commands: Commands) -> None:
        """Add the command to a parser's."""
        added = commands.add_parser(self.name, help=self.summary, description=self.summary)
        add_project(added)
        for option, settings in self.options.items():
            added.add_argument(option, **settings)
        added.set_defaults(start=self.start)

    def arguments(self, options: argparse.Namespace) -> list[str]:
        """Return the program's arguments; paths are absolute, because it runs in another folder."""
        given: list[str] = []
        for option in self.options:
            value = getattr(options, option.removeprefix("--").replace("-", "_"))
            if value is None or value is False:
                continue
            if not option.startswith("--"):
                given += value
            elif value is True:
                given.append(option)
            else:
                given += [option, str(value.resolve() if isinstance(value, Path) else value)]
        return [*self.words, *given]

    def start(self, project: Project, options: argparse.Namespace) -> NoReturn:
        """Run the program in this process's place: signals and the exit status are its own."""
        environment = program_environment(project, os.environ)
        command = [sys.executable, "-m", self.module, *self.arguments(options)]
        os.chdir(PLATFORM)
        os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted


def _absolute_if_there(text: str) -> str:
    """Return an absolute path in place of a relative one: a file, or a test in it as pytest names it."""
    path, separator, rest = text.partition("::")
    return f"{Path(path).resolve()}{separator}{rest}" if Path(path).exists() else text


_STAGE: Mapping[str, Mapping[str, Any]] = {"stage": {"nargs": 1, "help": "of the project's stages.yaml"}}
PROGRAMS: Sequence[PlatformProgram] = (
    PlatformProgram(
        "up",
        "Start the project's local stack, create what is missing, write .env.",
        "infra.local",
        ("up",),
        {
            "--enforce-iam": {
                "action": "store_true",
                "help": "let AWS check signatures and permissions of all but the root key",
            }
        },
    ),
    PlatformProgram("down", "Stop the local stack; its data stays.", "infra.local", ("down",)),
    PlatformProgram(
        "status", "Show the local stack; fails unless every part is ready.", "infra.local", ("status",)
    ),
    PlatformProgram(
        "dev",
        "Run the local stack with Dagster's UI and daemon until Ctrl-C.",
        "infra.local.dev",
        options={
            "--port": {"type": int, "help": "of Dagster's page; 3000 if it is free unless given"},
        },
    ),
    PlatformProgram("token", "Print a bearer token for the local API.", "infra.local.access_token"),
    PlatformProgram(
        "data", "Put the project's sample data on the local stack's S3.", "infra.local.sample_data"
    ),
    PlatformProgram(
        "demo",
        "Show the whole path that demo.yaml describes; fails unless all of it held.",
        "infra.local.demo",
    ),
    PlatformProgram(
        "test",
        "Run the project's tests, those of a model in the environment of its jobs.",
        "infra.environments.project_tests",
        options={
            "arguments": {
                "nargs": "*",
                "type": _absolute_if_there,
                "metavar": "argument",
                "help": "files or tests, all unless named; options of pytest after `--`",
            }
        },
    ),
    PlatformProgram(
        "lock",
        "Lock the packages that the project's models need beside the platform's own.",
        "infra.environments.family_locking",
        options={
            "families": {
                "nargs": "*",
                "metavar": "family",
                "help": "a file requirements/<family>.in; all of them unless named",
            },
            "--upgrade": {"action": "store_true", "help": "take the newest releases that are allowed"},
        },
    ),
    PlatformProgram(
        "environment",
        "Make an environment if it is not there, and print its Python.",
        "infra.environments",
        options={
            "name": {"nargs": 1, "help": "stack, cdk, cdk-cli, base, or a family of the project"},
            "--folder": {"action": "store_true", "help": "print the environment's folder"},
            "--path": {"action": "store_true", "help": "print the folders of its programs, for PATH"},
        },
    ),
    PlatformProgram(
        "images",
        "Write the folders that Dagster's image and those of jobs are built from.",
        "infra.images.build_contexts",
    ),
    PlatformProgram(
        "synth",
        "Write the CloudFormation templates of all stages; fails on findings of their rules.",
        "infra.local.cdk_synthesis",
        options={"stages": {"nargs": "*", "metavar": "stage", "help": "all unless named"}},
    ),
    PlatformProgram(
        "package",
        "Build the archives that are deployed: the API's, the Glue job's, the SageMaker jobs'.",
        "infra.packaging",
        options={
            "--out": {"type": Path, "help": "output folder; .mlpipe/packages of the project by default"},
            "--platform": {
                "choices": ("host", "aarch64", "x86_64"),
                "help": "of the API's function; this machine's by default",
            },
        },
    ),
    PlatformProgram(
        "upload-code",
        "Put the jobs' code where Glue and SageMaker of a stage read it.",
        "infra.code_upload",
        options=_STAGE,
    ),
    PlatformProgram(
        "snowflake-setup",
        "Print the SQL that sets a stage up in Snowflake.",
        "infra.snowflake_setup",
        options=_STAGE,
    ),
    PlatformProgram(
        "registry-copy",
        "Show how a stage's registry differs from a restored table, or make it the same.",
        "infra.registry_copy",
        options={
            **_STAGE,
            "--from": {"metavar": "TABLE", "required": True, "help": "the restored table"},
            "--model": {"help": "whose records alone"},
            "--write": {"action": "store_true", "help": "change the registry"},
        },
    ),
    PlatformProgram(
        "deploy-local", "Deploy to an emulator of its own, ask it, destroy it.", "infra.local.cdk_deployment"
    ),
)


def add_to(commands: Commands) -> None:
    """Add the commands."""
    for program in PROGRAMS:
        program.add_to(commands)
