"""What the commands of the local stack share: their lines for the reader, and where a stack lies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TextIO

from infra.packaging import PLATFORM


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
    for option, default in (("--state-dir", ".local"), ("--env-file", ".env")):
        # Resolved, because the path is the mark by which the stack's processes are known.
        parser.add_argument(
            option,
            type=lambda text: Path(text).resolve(),
            default=PLATFORM / default,
            help="default: %(default)s",
        )
    return parser
