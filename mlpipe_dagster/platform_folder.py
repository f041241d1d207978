"""Where the platform's own folders lie that are no packages of an installation: jobs, stacks, lock files."""

from __future__ import annotations

from pathlib import Path

_BESIDE = Path(__file__).resolve().parent
# An installed wheel keeps them inside this package: names such as `infra` belong to its users.
PLATFORM = _BESIDE / "_platform" if (_BESIDE / "_platform").is_dir() else _BESIDE.parent
