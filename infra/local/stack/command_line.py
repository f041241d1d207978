"""Shared parts of the local stack's commands: printing of lines and the choice of the stack."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from infra.local.supervision.stack_state import StackDirectory
from model_declaration.project import Project


@dataclass(frozen=True)
class ChosenStack:
    """The stack on which a command works.

    Attributes:
        project: The stack's project.
        directory: The stack's state directory.
        environment_file: The file with the stack's addresses for clients.
    """

    project: Project
    directory: StackDirectory
    environment_file: Path


def say(line: str, *, stream: TextIO | None = None) -> None:
    """Write a line and flush the stream, by default standard output."""
    output = stream or sys.stdout
    try:
        output.write(f"{line}\n")
        output.flush()
    except BrokenPipeError:
        # The reading program has ended, such as `head`. That must not interrupt a start.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def stack_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a command's parser with the options that name a stack."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    for option, what, default in (
        ("--state-dir", "folder of the stack's state", ".mlpipe/stack"),
        ("--env-file", "file that `mlpipe up` writes", ".env"),
    ):
        # Resolved, because the stack's processes are found by this path in their environment.
        parser.add_argument(
            option,
            type=lambda text: Path(text).resolve(),
            help=f"{what}; default: {default} in the project",
        )
    return parser


def chosen_stack(options: argparse.Namespace) -> ChosenStack:
    """Return the stack chosen by the options of `stack_parser`, by default the current project's.

    Raises:
        ProjectError: There is no project, or it is wrong.
    """
    project = Project.find(os.environ, Path.cwd())
    return ChosenStack(
        project,
        StackDirectory(options.state_dir or project.stack_folder),
        options.env_file or project.environment_file,
    )
