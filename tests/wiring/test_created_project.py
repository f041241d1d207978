"""All `dg` commands work in a project of `create-dagster` whose environment has the installed wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed_platform import InstalledPlatform, install_platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = "churn"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> InstalledPlatform:
    """An environment with the installed wheel."""
    return install_platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def acme(platform: InstalledPlatform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by `create-dagster`, with one scaffolded model."""
    folder = tmp_path_factory.mktemp("created")
    created = subprocess.run(
        [str(Path(sys.executable).with_name("create-dagster")), "project", "acme", "--no-uv-sync"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert created.returncode == 0, created.stdout + created.stderr
    output(platform, folder / "acme", "dg", "scaffold", "defs", "mlpipe.PredictionPipeline", MODEL)
    return folder / "acme"


def output(platform: InstalledPlatform, folder: Path, *words: str) -> str:
    """Run a command that must succeed, with the project's package on the path, and return its output."""
    done = platform.run(folder, *words, PYTHONPATH=str(folder / "src"), DAGSTER_HOME=str(folder))
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_component_is_found_without_project_settings(platform: InstalledPlatform, acme: Path) -> None:
    """`dg` finds it by the wheel's entry point, although the project names no module of it."""
    listed = output(platform, acme, "dg", "list", "components", "--json")
    assert set(re.findall(r'"(mlpipe[^"]*)"', listed)) == {"mlpipe.PredictionPipeline"}


def test_scaffolded_model_passes_all_checks(platform: InstalledPlatform, acme: Path) -> None:
    """`dg check` accepts its file and definitions, and `dagster definitions validate` loads them."""
    assert "successfully" in output(platform, acme, "dg", "check", "yaml")
    assert "All definitions loaded successfully" in output(platform, acme, "dg", "check", "defs")
    output(platform, acme, "dagster", "definitions", "validate", "-m", "acme.definitions")


def test_scaffolded_model_is_listed(platform: InstalledPlatform, acme: Path) -> None:
    """`dg` lists it in the component tree and by its assets."""
    assert "defs.yaml (PredictionPipeline)" in output(platform, acme, "dg", "list", "component-tree")
    listed = output(platform, acme, "dg", "list", "defs", "--json")
    document = json.loads(listed[listed.index("{") :])
    assets = {each["asset_key"] for each in document["assets"]}
    assert {
        f"{MODEL}/{name}" for name in ("features", "trained_model", "predictions", "publication")
    } <= assets


def test_scaffolded_model_can_be_tried(platform: InstalledPlatform, acme: Path) -> None:
    """`mlpipe try` works on its sample data, and `mlpipe check` accepts the project."""
    tried = output(platform, acme, "mlpipe", "try", MODEL)
    assert re.search("would load +yes", tried), tried
    assert re.search("right +yes", output(platform, acme, "mlpipe", "check"))


@pytest.mark.stack
def test_launched_run_prepares_features_on_the_local_stack(platform: InstalledPlatform, acme: Path) -> None:
    """`dg launch` uses the stack's addresses in `.env`, and the job uses the project's functions."""
    try:
        output(platform, acme, "mlpipe", "up")
        output(platform, acme, "mlpipe", "data")
        words = ("--assets", f"{MODEL}/features", "--partition", "2024-03-01")
        assert "RUN_SUCCESS" in output(platform, acme, "dg", "launch", *words)
    finally:
        assert platform.run(acme, "mlpipe", "down").returncode == 0
