"""Tests that the image of SageMaker's jobs is made from a lock that holds all packages they import."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

from infra.packaging import PLATFORM
from prediction_contract.jobs.code_digest import PYTHON_VERSION
from tests.infra.dockerfiles import instructions

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCKERFILE = PLATFORM / "infra" / "images" / "jobs" / "Dockerfile"
LOCK = "requirements/scoring.lock"
OWN = {"prediction_batches", "prediction_contract", "sagemaker_scripts"}
OF_FAMILIES = {"lightgbm", "onnxruntime", "polars", "safetensors", "xgboost"}


def locked() -> set[str]:
    """Return the packages of the lock."""
    text = (PLATFORM / LOCK).read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))


def imported() -> Iterator[tuple[str, str]]:
    """Yield file and top-level module of every import in the code that jobs receive.

    Libraries that only some families have are left out if they are imported inside a function.
    """
    for package in sorted(OWN):
        for path in sorted((PLATFORM / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            as_used = {id(inner) for function in functions for inner in ast.walk(function)}
            for node in ast.walk(tree):
                for module in modules(node):
                    if module not in OF_FAMILIES or id(node) not in as_used:
                        yield str(path), module


def modules(node: ast.AST) -> list[str]:
    """Return the top-level modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []


def test_image_installs_only_a_lock_with_hashes() -> None:
    """The image copies only the lock and installs it with hashes, because code comes with each job."""
    assert instructions(DOCKERFILE, "COPY") == ["requirements.lock /opt/mlpipe/requirements.lock"]
    (install,) = [line for line in instructions(DOCKERFILE, "RUN") if "pip install" in line]
    assert {"--require-hashes", "--only-binary", "/opt/mlpipe/requirements.lock"} <= set(install.split())


def test_lock_holds_all_imported_packages() -> None:
    """The lock holds every package that job code imports, because a missing one fails only on AWS."""
    providers, held = packages_distributions(), locked()
    missing = {
        f"{path} imports {module}"
        for path, module in imported()
        if module not in OWN | set(sys.stdlib_module_names)
        and held.isdisjoint(re.sub("[-_.]+", "-", each).lower() for each in providers.get(module, ()))
    }
    assert missing == set()
    # Jobs report to Dagster through Pipes and need no other part of Dagster.
    assert "dagster-pipes" in held
    assert "dagster" not in held


def test_image_has_the_locked_python_and_runs_as_root() -> None:
    """The image has the lock's Python, and runs as root to write where SageMaker mounts root's folders."""
    (base,) = instructions(DOCKERFILE, "FROM")
    assert base.startswith(f"python:{PYTHON_VERSION}-")
    assert instructions(DOCKERFILE, "USER") == []
