"""Commands for the local stack and the project's code; each runs one of the platform's programs."""

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
    """A command that runs one of the platform's programs.

    Attributes:
        name: The command's name.
        summary: The command's help text, one line.
        module: The program, run as `python -m <module>`.
        words: The program's arguments before the options.
        options: By option, the keyword arguments for argparse's `add_argument`.
    """

    name: str
    summary: str
    module: str
    words: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def add_to(self, commands: Commands) -> None:
        """Add the command."""
        added = commands.add_parser(self.name, help=self.summary, description=self.summary)
        add_project(added)
        for option, settings in self.options.items():
            added.add_argument(option, **settings)
        added.set_defaults(start=self.start)

    def arguments(self, options: argparse.Namespace) -> list[str]:
        """Return the program's arguments; paths become absolute, because it runs in another folder."""
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
        """Replace this process with the program, so that signals and the exit status are the program's."""
        environment = program_environment(project, os.environ)
        command = [sys.executable, "-m", self.module, *self.arguments(options)]
        os.chdir(PLATFORM)
        os.execve(sys.executable, command, environment)  # noqa: S606  # needs no shell


def _absolute_if_exists(text: str) -> str:
    """Return an existing relative path as an absolute one; it may be followed by a test's name in it."""
    path, separator, rest = text.partition("::")
    return f"{Path(path).resolve()}{separator}{rest}" if Path(path).exists() else text


_STAGE: Mapping[str, Mapping[str, Any]] = {
    "stage": {"nargs": 1, "help": "a stage of the project's stages.yaml"}
}
PROGRAMS: Sequence[PlatformProgram] = (
    PlatformProgram(
        "up",
        "Start the project's local stack, create missing resources, write .env.",
        "infra.local",
        ("up",),
        {
            "--enforce-iam": {
                "action": "store_true",
                "help": "check signatures and permissions, except for the root key",
            }
        },
    ),
    PlatformProgram("down", "Stop the local stack; its data is kept.", "infra.local", ("down",)),
    PlatformProgram(
        "status", "Show the local stack; fails unless every part is ready.", "infra.local", ("status",)
    ),
    PlatformProgram(
        "dev",
        "Run the local stack with Dagster's UI and daemon until Ctrl-C.",
        "infra.local.dev",
        options={
            "--port": {"type": int, "help": "the port of Dagster's UI; by default 3000 if it is free"},
        },
    ),
    PlatformProgram("token", "Print a bearer token for the local API.", "infra.local.access_token"),
    PlatformProgram(
        "data", "Put the project's sample data on the local stack's S3.", "infra.local.sample_data"
    ),
    PlatformProgram(
        "demo",
        "Run the steps of demo.yaml from data to API; fails unless every step succeeds.",
        "infra.local.demo",
    ),
    PlatformProgram(
        "test",
        "Run the project's tests; a model's tests run in the environment of its jobs.",
        "infra.environments.project_tests",
        options={
            "arguments": {
                "nargs": "*",
                "type": _absolute_if_exists,
                "metavar": "argument",
                "help": "files or tests, by default all; options of pytest after `--`",
            }
        },
    ),
    PlatformProgram(
        "lock",
        "Lock the packages that the project's models need in addition to the platform's.",
        "infra.environments.family_locking",
        options={
            "families": {
                "nargs": "*",
                "metavar": "family",
                "help": "a file requirements/<family>.in; by default all of them",
            },
            "--upgrade": {"action": "store_true", "help": "use the newest allowed releases"},
        },
    ),
    PlatformProgram(
        "environment",
        "Make an environment unless it exists, and print its Python.",
        "infra.environments",
        options={
            "name": {"nargs": 1, "help": "stack, cdk, cdk-cli, base, or one of the project's families"},
            "--folder": {"action": "store_true", "help": "print the environment's folder"},
            "--path": {"action": "store_true", "help": "print the folders of its programs, for PATH"},
        },
    ),
    PlatformProgram(
        "images",
        "Write the build folders of Dagster's image and the jobs' images.",
        "infra.images.build_contexts",
    ),
    PlatformProgram(
        "synth",
        "Write the CloudFormation templates of all stages; fails if a rule has findings.",
        "infra.local.cdk_synthesis",
        options={"stages": {"nargs": "*", "metavar": "stage", "help": "by default all"}},
    ),
    PlatformProgram(
        "package",
        "Build the code archives of the API, the Glue job and the SageMaker jobs.",
        "infra.packaging",
        options={
            "--out": {"type": Path, "help": "the output folder; by default .mlpipe/packages in the project"},
            "--platform": {
                "choices": ("host", "aarch64", "x86_64"),
                "help": "the architecture of the API's function; by default this machine's",
            },
        },
    ),
    PlatformProgram(
        "upload-code",
        "Upload the jobs' code to where a stage's Glue and SageMaker jobs read it.",
        "infra.code_upload",
        options=_STAGE,
    ),
    PlatformProgram(
        "snowflake-setup",
        "Print the SQL that sets up a stage in Snowflake.",
        "infra.snowflake_setup",
        options=_STAGE,
    ),
    PlatformProgram(
        "registry-copy",
        "Show how a stage's registry differs from a restored table, or copy that table into it.",
        "infra.registry_copy",
        options={
            **_STAGE,
            "--from": {"metavar": "TABLE", "required": True, "help": "the restored table"},
            "--model": {"help": "only this model's records"},
            "--write": {"action": "store_true", "help": "change the registry"},
        },
    ),
    PlatformProgram(
        "deploy-local",
        "Deploy to a separate emulator, test the deployment, destroy it.",
        "infra.local.cdk_deployment",
    ),
)


def add_to(commands: Commands) -> None:
    """Add the commands."""
    for program in PROGRAMS:
        program.add_to(commands)
