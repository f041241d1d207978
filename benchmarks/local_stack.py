"""Runs stand-ins of the local stack for one benchmark, without provisioning."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 300


@contextmanager
def stack(folder: Path, *components: str) -> Iterator[dict[str, int]]:
    """Run some components, for example `aws` for S3 and DynamoDB; yield their ports by component."""
    state = folder / "state"
    options = ["--state-dir", str(state), "--env-file", str(folder / "stack.env")]
    only = [word for component in components for word in ("--only", component)]
    _run("up", *options, *only)
    try:
        status = json.loads((state / "status.json").read_text())
        yield {name: component["port"] for name, component in status["components"].items()}
    finally:
        _run("down", *options, *only)


def _run(*words: str) -> None:
    command = [sys.executable, "-m", "infra.local", *words]
    subprocess.run(command, cwd=ROOT, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL)
