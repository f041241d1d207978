"""What the commands of the local stack share: their lines for the reader, and which stack they are about."""

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
    """The stack that a command is about.

    Attributes:
        project: Whose it is.
        directory: Its state directory.
        environment_file: Where its addresses are written for clients.
    """

    project: Project
    directory: StackDirectory
    environment_file: Path


def say(line: str, *, stream: TextIO | None = None) -> None:
    """Write a line at once, to standard output unless told otherwise."""
    output = stream or sys.stdout
    try:
        output.write(f"{line}\n")
        output.flush()
    except BrokenPipeError:
        # The reader left, as `head` does; that must not stop a start halfway.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def stack_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a command's parser with the options that name a stack."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    for option, default in (("--state-dir", ".mlpipe/stack"), ("--env-file", ".env")):
        # Resolved, because the path is the mark by which the stack's processes are known.
        parser.add_argument(
            option, type=lambda text: Path(text).resolve(), help=f"{default} of the project by default"
        )
    return parser


def chosen_stack(options: argparse.Namespace) -> ChosenStack:
    """Return the stack that the options of `stack_parser` name, by default that of the present project.

    Raises:
        ProjectError: There is no project, or it is wrong.
    """
    project = Project.find(os.environ, Path.cwd())
    return ChosenStack(
        project,
        StackDirectory(options.state_dir or project.stack_folder),
        options.env_file or project.environment_file,
    )
