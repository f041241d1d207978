"""Declarations can be read with only pydantic and PyYAML installed."""

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
# pydantic, PyYAML and their dependencies.
LIBRARIES = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
    "yaml",
}


def output(program: str) -> list[list[str]]:
    """Return what a program prints in a separate process."""
    command = [sys.executable, "-c", program, str(EXAMPLE.defs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_reading_declarations_imports_few_packages() -> None:
    """Reading declarations imports only pydantic and PyYAML, so the command line starts fast."""
    declared, imported = output(READING)
    assert {"airport_congestion", "flight_delay"} <= set(declared)
    # The environment's start-up code may import modules whose names begin with an underscore.
    assert {name for name in imported if not name.startswith("_")} <= LIBRARIES | {
        "model_declaration",
        "prediction_contract",
    }


def test_listing_models_imports_no_libraries() -> None:
    """Most commands only need the model names, which are listed without pydantic and PyYAML."""
    declared, imported = output(NAMES)
    assert {"airport_congestion", "flight_delay"} <= set(declared)
    assert imported == []
