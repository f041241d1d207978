"""A project that `create-dagster` writes, in an environment that has the wheel: all of `dg` works in it."""

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
    """The wheel, installed."""
    return install_platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def acme(platform: InstalledPlatform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as `create-dagster` writes it, with one scaffolded model."""
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
    """Return what a command says that succeeds; the package is on the path, as when it is installed."""
    done = platform.run(folder, *words, PYTHONPATH=str(folder / "src"), DAGSTER_HOME=str(folder))
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_empty_project_sees_the_component(platform: InstalledPlatform, acme: Path) -> None:
    """By the wheel's entry point, although the project names no module of it."""
    listed = output(platform, acme, "dg", "list", "components", "--json")
    assert set(re.findall(r'"(mlpipe[^"]*)"', listed)) == {"mlpipe.PredictionPipeline"}


def test_the_scaffolded_model_passes_all_checks(platform: InstalledPlatform, acme: Path) -> None:
    """Its file by the schema, its definitions as Dagster loads them, and as `dagster` alone does."""
    assert "successfully" in output(platform, acme, "dg", "check", "yaml")
    assert "All definitions loaded successfully" in output(platform, acme, "dg", "check", "defs")
    output(platform, acme, "dagster", "definitions", "validate", "-m", "acme.definitions")


def test_the_model_is_listed(platform: InstalledPlatform, acme: Path) -> None:
    """In the tree of components, and by its assets."""
    assert "defs.yaml (PredictionPipeline)" in output(platform, acme, "dg", "list", "component-tree")
    listed = output(platform, acme, "dg", "list", "defs", "--json")
    document = json.loads(listed[listed.index("{") :])
    assets = {each["asset_key"] for each in document["assets"]}
    assert {
        f"{MODEL}/{name}" for name in ("features", "trained_model", "predictions", "publication")
    } <= assets


def test_the_scaffolded_model_can_be_tried(platform: InstalledPlatform, acme: Path) -> None:
    """On its sample data, in the environment of its jobs; the project as a whole is right, too."""
    tried = output(platform, acme, "mlpipe", "try", MODEL)
    assert re.search("would load +yes", tried), tried
    assert re.search("right +yes", output(platform, acme, "mlpipe", "check"))


@pytest.mark.stack
def test_a_launched_run_prepares_features_on_the_local_stack(platform: InstalledPlatform, acme: Path) -> None:
    """`dg launch` takes the stack's addresses from `.env`, and the job the functions of the project."""
    try:
        output(platform, acme, "mlpipe", "up")
        output(platform, acme, "mlpipe", "data")
        words = ("--assets", f"{MODEL}/features", "--partition", "2024-03-01")
        assert "RUN_SUCCESS" in output(platform, acme, "dg", "launch", *words)
    finally:
        assert platform.run(acme, "mlpipe", "down").returncode == 0
