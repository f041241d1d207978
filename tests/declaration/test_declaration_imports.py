"""Declarations are read wherever pydantic and PyYAML are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.projects import EXAMPLE

ROOT = Path(__file__).resolve().parents[2]
READING = """
import json, sys
from pathlib import Path
from model_declaration.declaration_files import declarations_in
declared = declarations_in(Path(sys.argv[1]))
found = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps([sorted(declared), sorted(found - set(sys.stdlib_module_names))]))
"""
NAMES = """
import json, sys
from pathlib import Path
from model_declaration.declared_models import declared_names
declared = declared_names(Path(sys.argv[1]))
print(json.dumps([declared, [name for name in ("yaml", "pydantic") if name in sys.modules]]))
"""
# What pydantic and PyYAML are made of.
LIBRARIES = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
    "yaml",
}


def output(program: str) -> list[list[str]]:
    """Return what a program prints in a process of its own."""
    command = [sys.executable, "-c", program, str(EXAMPLE.defs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_reading_declarations_imports_neither_dagster_nor_aws() -> None:
    """The command line starts at once, and the CDK's environment holds neither."""
    declared, imported = output(READING)
    assert {"airport_congestion", "flight_delay"} <= set(declared)
    # Of an environment's own start, some names begin so as well.
    assert {name for name in imported if not name.startswith("_")} <= LIBRARIES | {
        "model_declaration",
        "prediction_contract",
    }


def test_the_names_of_models_are_known_without_reading_files() -> None:
    """Which is what most commands need."""
    declared, imported = output(NAMES)
    assert {"airport_congestion", "flight_delay"} <= set(declared)
    assert imported == []
