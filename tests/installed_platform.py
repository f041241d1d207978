"""The platform as users install it: the wheel and its locked packages in a separate environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import uv

ROOT = Path(__file__).resolve().parents[1]
_BUILD_SECONDS, _INSTALL_SECONDS = 120, 240


@dataclass(frozen=True)
class InstalledPlatform:
    """An environment that holds the wheel; nothing of the checkout is on its path.

    Attributes:
        environment: Its folder.
    """

    environment: Path

    def run(self, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs in a folder, with standard error in its output."""
        return subprocess.run(
            [str(self.environment / "bin" / words[0]), *words[1:]],
            cwd=folder,
            env=self.variables(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
        )

    def variables(self, **more: str) -> dict[str, str]:
        """Return the variables of a shell in which the environment is active."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLPIPE_"))
        }
        return {
            **kept,
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.environment),
            "COLUMNS": "200",
            **more,
        }


def build_wheel(folder: Path) -> Path:
    """Build the wheel as published and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=_BUILD_SECONDS, check=True)
    (built,) = folder.glob("*.whl")
    return built


def install_platform(folder: Path) -> InstalledPlatform:
    """Make an environment with the wheel and the locked packages of Dagster's image."""
    wheel, environment = build_wheel(folder), folder / "environment"
    program, python = uv.find_uv_bin(), str(environment / "bin" / "python")
    lock = str(ROOT / "requirements" / "runtime.lock")
    for words in (
        ("venv", "--python", sys.executable, str(environment)),
        ("pip", "sync", "--python", python, "--require-hashes", "--compile-bytecode", lock),
        ("pip", "install", "--python", python, "--no-deps", str(wheel)),
    ):
        subprocess.run([program, *words], capture_output=True, timeout=_INSTALL_SECONDS, check=True)
    return InstalledPlatform(environment)
