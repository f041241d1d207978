"""From the wheel alone, in an empty folder, to four live models with four libraries."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dotenv import dotenv_values

from tests.development.copied_projects import PROJECTS
from tests.development.guide_pages import GUIDES, GuidePage
from tests.installed_platform import InstalledPlatform, install_platform
from tests.stack_runs import aws_client_at

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.drill, pytest.mark.timeout(2400)]
# The last partition for retraining, the scored partition in Dagster's format, and an entity.
_MODELS = {
    "expected_orders": ("2024-03-24", "2024-03-28", "shop-3"),
    "churn": (None, "2026-03-19", "C00001"),
    "demand": ("2026-03-18", "2026-03-19", "Harbour"),
    "dock_load": ("2026-03-10T13", "2026-03-10-14:00", "Park"),
}
# Without metrics a person must approve.
_PROMOTED_BY_A_PERSON = "dock_load"
_SAMPLE_DATA = """from acme import bikes_data, orders_data


def objects():
    yield from orders_data.objects()
    yield from bikes_data.objects()
"""


class FirstDay:
    """A project in an otherwise empty folder, with an empty home folder.

    Args:
        platform: The installed wheel.
        folder: The parent of the project's folder.
    """

    def __init__(self, platform: InstalledPlatform, folder: Path) -> None:
        self._platform = platform
        self.beside = folder / "work"
        self.home = folder / "home"
        self.project = self.beside / "acme"
        for path in (self.beside, self.home):
            path.mkdir()
        # Environments belong to the user and are shared by all projects.
        self._cache = os.environ.get("MLPIPE_CACHE") or str(Path.home() / ".cache" / "mlpipe")
        self._packages = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")

    def run(self, *words: str, folder: Path | None = None) -> str:
        """Run a command in the project and return its output."""
        done = self._platform.run(
            folder or self.project,
            *words,
            HOME=str(self.home),
            MLPIPE_CACHE=self._cache,
            UV_CACHE_DIR=self._packages,
            # As if the project were installed.
            **{**self._variables(), "PYTHONPATH": str(self.project / "src")},
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}"
        return done.stdout

    def add_models(self) -> None:
        """Write the guides' files and data for them."""
        package, bikes = self.project / "src" / "acme", PROJECTS / "bikes" / "src" / "bikes"
        (package / "sample_data.py").rename(package / "orders_data.py")
        (package / "sample_data.py").write_text(_SAMPLE_DATA)
        shutil.copy(bikes / "sample_data.py", package / "bikes_data.py")
        for name in ("churn.ubj", "customers.parquet"):
            shutil.copy(bikes / name, package)
        for guide in GUIDES:
            for path, content in GuidePage.read(guide).files.items():
                target = self.project / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(content, encoding="utf-8")

    def publish(self, model: str, last: str | None, partition: str) -> None:
        """Retrain, score and load a model with the commands."""
        if last is not None:
            config = {"ops": {f"{model}__trained_model": {"config": {"last_partition": last}}}}
            trained = ("--select", f"{model}/trained_model", "--config-json", json.dumps(config))
            self.run("dagster", "asset", "materialize", *trained)
        if model == _PROMOTED_BY_A_PERSON:
            self.run("mlpipe", "promote", model, "1", "--reason", "the first version")
        self.run("dg", "launch", "--job", f"{model}_score", "--partition", partition)
        self.run("mlpipe", "load", self._done_file(model))

    def prediction(self, model: str, entity: str) -> Any:
        """Return the API's response."""
        token = self.run("mlpipe", "token").split()[-1]
        asked = urllib.request.Request(  # a local address
            f"{self._variable('MLPIPE_API_URL')}/v1/models/{model}/predictions/{entity}",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:  # as above
            return json.load(answer)

    def _done_file(self, model: str) -> str:
        endpoint = self._variable("AWS_ENDPOINT_URL_S3") or self._variable("AWS_ENDPOINT_URL")
        listed = aws_client_at(endpoint, "s3").list_objects_v2(
            Bucket=self._variable("MLPIPE_DATA_BUCKET"), Prefix="done/"
        )
        [key] = [item["Key"] for item in listed["Contents"] if f"/{model}/" in item["Key"]]
        return str(key)

    def _variable(self, name: str) -> str:
        return self._variables().get(name, "")

    def _variables(self) -> dict[str, str]:
        """Return what `set -a; . ./.env; set +a` gives a shell."""
        return {name: value or "" for name, value in dotenv_values(self.project / ".env").items()}


@pytest.fixture
def first_day(tmp_path: Path) -> Iterator[FirstDay]:
    """Install the wheel in a new environment, and prepare two empty folders."""
    (tmp_path / "platform").mkdir()
    day = FirstDay(install_platform(tmp_path / "platform"), tmp_path)
    try:
        yield day
    finally:
        if day.project.is_dir():
            day.run("mlpipe", "down")


def files_below(folder: Path) -> set[Path]:
    """Return all files except byte code."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_team_publishes_four_models(first_day: FirstDay, tmp_path: Path) -> None:
    """A new project and the guides' three models become live, and nothing is written outside the project."""
    installed = files_below(tmp_path / "platform")
    first_day.run("mlpipe", "init", "acme", folder=first_day.beside)
    first_day.add_models()
    for words in (
        ("lock",),
        ("check", "--leaks"),
        *(("try", model) for model in _MODELS),
        ("up",),
        ("data",),
    ):
        first_day.run("mlpipe", *words)
    for model, (last, partition, entity) in _MODELS.items():
        first_day.publish(model, last, partition)
        answer = first_day.prediction(model, entity)
        assert (answer["model"], answer["entity_id"]) == (model, entity)
        assert all(value is not None for value in answer["prediction"].values())
    first_day.run("mlpipe", "test")
    assert files_below(tmp_path / "platform") == installed
    assert [path.name for path in first_day.beside.iterdir()] == ["acme"]
    assert files_below(first_day.home) == set()
