"""Definitions load without heavy modules, declarations match the schema, and lock files are complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dagster_shared.yaml_utils import safe_load_yaml
from jsonschema import Draft202012Validator
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlpipe_dagster.components.prediction_pipeline import PredictionPipeline
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DECLARATIONS = [
    *sorted(EXAMPLE.defs.glob("*/defs.yaml")),
    ROOT / "mlpipe_dagster" / "components" / "template" / "model" / "defs.yaml.template",
]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
HEAVY = (
    "boto3",
    "botocore",
    "pandas",
    "snowflake",
    "deltalake",
    "sagemaker",
    "pyarrow",
    "sklearn",
    "pyspark",
)

LOAD = """
import json, sys
from flights.definitions import defs
defs.get_repository_def()
# A namespace package, which an installed .pth file makes at every start of Python, is no import.
print(json.dumps(sorted(name for name, module in sys.modules.items() if getattr(module, "__file__", None))))
"""

_LOCK_RULE = re.compile(
    r"^\t\$\(COMPILE\)(?P<sources>.*) -o \$\(LOCK_DIR\)/(?P<lock>[a-z]+\.lock)$", re.MULTILINE
)
_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9,_-]+\])?==(?P<version>[^\s;]+)(\s*;\s*(?P<marker>[^\\]+))?"
)


def test_definitions_load_without_heavy_modules() -> None:
    """Dagster loads the code location without AWS clients, data frames or machine learning."""
    # The caller's Python settings must not make imports possible that `make setup` does not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "dagster" in loaded
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.parent.name)
def test_every_declaration_matches_the_schema(path: Path) -> None:
    """`dg check yaml` without a folder checks only one file of each component type."""
    schema = PredictionPipeline.get_model_cls().model_json_schema()
    document = safe_load_yaml(path.read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document["attributes"])] == []


def test_code_location_has_one_name() -> None:
    """`dagster` and `dg` must use the same name, because a run key is unique only within its location."""
    workspace: Any = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    names = [entry["python_module"]["location_name"] for entry in workspace["load_from"]]
    assert names == [EXAMPLE.location_name]


def entries(lock: Path) -> list[str]:
    """Return a lock file's requirements, each joined with its hashes to one line."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def pins(lock: Path) -> Iterator[tuple[str, str]]:
    """Yield name and version of each package that a lock file installs on this Python and system."""
    for entry in entries(lock):
        match = _PINNED.match(entry)
        assert match is not None, entry
        marker = (match["marker"] or "").partition("--hash")[0].strip()
        if not marker or Marker(marker).evaluate():
            yield canonicalize_name(match["name"]), match["version"]


def lock_sources() -> dict[str, list[str]]:
    """Return the options that the Makefile compiles each lock file from."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {match["lock"]: match["sources"].split() for match in _LOCK_RULE.finditer(makefile)}


def declared(sources: list[str]) -> list[Requirement]:
    """Return the requirements in pyproject.toml for a lock file's sources."""
    project: dict[str, Any] = PYPROJECT["project"]
    texts: list[str] = []
    words = iter(sources)
    for word in words:
        if word == "pyproject.toml":
            texts += project["dependencies"]
        elif word == "--extra":
            texts += project["optional-dependencies"][next(words)]
        elif word == "--group":
            texts += PYPROJECT["dependency-groups"][next(words)]
        elif word in {"--python-platform", "--constraints"}:
            next(words)
        elif word == "--no-universal":
            pass
        else:
            raise AssertionError(
                f"an option of the Makefile's lock rule that this test does not know: {word}"
            )
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_file_names_no_index_and_has_all_hashes(lock: Path) -> None:
    """Users install from their own index and get exactly the locked files."""
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    options = {line.split()[0] for line in entries(lock) if line.startswith("-")}
    assert options == set()
    # `name @ file` and `name @ git` would not come from the index.
    assert [entry for entry in entries(lock) if not _PINNED.match(entry)] == []
    assert [entry for entry in entries(lock) if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)] == []


def test_every_lock_file_has_a_make_rule() -> None:
    """`make lock` makes exactly the committed lock files."""
    assert sorted(lock_sources()) == [lock.name for lock in LOCKS]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_file_contains_declared_requirements(lock: Path) -> None:
    """Each declared requirement is locked at a version that it allows."""
    locked = dict(pins(lock))
    requirements = declared(lock_sources()[lock.name])
    assert requirements
    wrong = [
        f"{requirement} locked as {locked.get(canonicalize_name(requirement.name))}"
        for requirement in requirements
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0.dev0"))
    ]
    assert wrong == []
