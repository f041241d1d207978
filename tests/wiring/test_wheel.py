"""The wheel is complete, builds the checkout's archives and takes no top-level names of users."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.installed_platform import build_wheel
from tests.projects import EXAMPLE, new_project

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = {"mlpipe", "mlpipe_dagster", "model_declaration", "prediction_batches", "prediction_contract"}
FOLDERS = {"api_lambda", "aws_wire", "glue_scripts", "infra", "requirements", "sagemaker_scripts"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel as published."""
    return zipfile.Path(build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def site_packages(wheel: zipfile.Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, which tests must not change."""
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.root.extractall(folder)
    return folder


def test_wheel_has_no_common_top_level_names(wheel: zipfile.Path) -> None:
    """A repository's own `infra` or `requirements` must not be hidden by the wheel's."""
    names = {entry.name for entry in wheel.iterdir() if not entry.name.endswith(".dist-info")}
    assert names == {
        "mlpipe",
        "mlpipe_dagster",
        "model_declaration",
        "prediction_batches",
        "prediction_contract",
    }


def test_wheel_contains_all_files_of_its_folders(wheel: zipfile.Path) -> None:
    """SQL, lock files, package files and templates are included as well as code."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.check_output(git, cwd=ROOT, text=True).splitlines()
    listed = {path for path in found if (ROOT / path).is_file()}
    left_out = {f"requirements/{name}.lock" for name in ("dev", "docs", "spark", "uv", "wrangler")}
    expected = {path for path in listed if path.partition("/")[0] in IMPORTED}
    expected |= {
        f"mlpipe_dagster/_platform/{path}"
        for path in listed
        if path.partition("/")[0] in FOLDERS and path not in left_out
    }
    held = {name for name in wheel.root.namelist() if ".dist-info/" not in name}
    assert expected - held == set()
    assert {name for name in held - expected if not name.endswith("/")} == set()


def files_in(folder: Path) -> set[Path]:
    """Return all files except byte code."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def packaged(platform: Path, path: Path, out: Path) -> dict[str, bytes]:
    """Return the archives that `infra.packaging` builds, by name."""
    subprocess.run(
        [sys.executable, "-m", "infra.packaging", "--out", str(out)],
        cwd=platform,
        env={**os.environ, "PYTHONPATH": str(path), "MLPIPE_PROJECT": str(EXAMPLE.root)},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_installed_wheel_builds_the_checkouts_archives(site_packages: Path, tmp_path: Path) -> None:
    """An installed platform deploys exactly the code that was tested."""
    before = files_in(site_packages)
    installed = packaged(
        site_packages / "mlpipe_dagster" / "_platform", site_packages, tmp_path / "installed"
    )
    assert len(installed) == 3
    assert installed == packaged(ROOT, ROOT, tmp_path / "checkout")
    assert files_in(site_packages) == before


def test_wheel_finds_its_platform_folder(site_packages: Path) -> None:
    """The wheel compares uploaded code with its own copy, which equals the checkout's."""
    program = (
        "from pathlib import Path; "
        "from mlpipe_dagster.installed_platform import PLATFORM; "
        "from mlpipe_dagster.pipeline.code_comparison import present_digest; "
        "print(PLATFORM, present_digest('glue_scripts', None))"
    )

    def printed(path: Path) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=path.parent,
            env={**os.environ, "PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.split()

    folder, digest = printed(site_packages)
    assert Path(folder) == site_packages / "mlpipe_dagster" / "_platform"
    assert printed(ROOT) == [str(ROOT), digest]


def test_project_can_require_platform_versions(tmp_path: Path) -> None:
    """Another version is refused with the required one; an invalid requirement is an error."""
    project = new_project(tmp_path / "project")
    marker = project.root / "pyproject.toml"
    text = marker.read_text()
    for requires, fault in (
        (">=0.1,<1", None),
        (">=9", "needs mlpipe >=9, but "),
        ("soon", "'soon' is no"),
    ):
        marker.write_text(text.replace("[tool.mlpipe]\n", f'[tool.mlpipe]\nrequires = "{requires}"\n'))
        done = subprocess.run(
            [sys.executable, "-c", "from acme import definitions"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(project.source_folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) is (fault is None), done.stderr
        assert fault is None or fault in done.stderr
