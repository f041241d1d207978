"""Tests that the contract needs no installed packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import prediction_contract
names = [found.name for found in pkgutil.walk_packages(prediction_contract.__path__, "prediction_contract.")]
for name in names:
    importlib.import_module(name)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(len(names), sorted(foreign - {"__main__", "prediction_contract"}))
"""


def test_contract_needs_only_the_standard_library() -> None:
    """Every module can be imported without installed packages, and imports none."""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(ROOT)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    count, _, foreign = result.stdout.strip().partition(" ")
    assert int(count) >= 15
    assert foreign == "[]"
