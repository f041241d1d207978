"""Tests of the folders that images are built from: complete, independent of the repository, no secrets."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.images.build_contexts import main, write_build_contexts
from model_declaration.job_requirements import RequirementsError, family_files
from model_declaration.project import Project
from tests.infra.dockerfiles import environment_variables, instructions
from tests.infra.environments.small_locks import write_stale_lock
from tests.projects import EXAMPLE, new_project

ROOT = Path(__file__).resolve().parents[3]
# Loads the definitions and finds a model's job image, as Dagster's image does below /opt/mlpipe.
LOAD = """
from flights.definitions import defs
from mlpipe_dagster.installed_platform import PLATFORM
from model_declaration.declaration_files import declaration_of
from model_declaration.job_requirements import job_image
from pathlib import Path
declared = declaration_of("flight_delay", Path("project/src/flights/defs"))
print(len(list(defs.assets)), PLATFORM, job_image(declared, PLATFORM).tag)
"""


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the build folders of the example's images."""
    folder = tmp_path_factory.mktemp("contexts") / "images"
    write_build_contexts(EXAMPLE, folder)
    return folder


def copied(folder: Path) -> list[Path]:
    """Return the paths that a folder's Dockerfile copies."""
    return [folder / line.split()[0] for line in instructions(folder / "Dockerfile", "COPY")]


def test_folder_holds_all_files_that_its_dockerfile_copies(contexts: Path) -> None:
    """Every file that a Dockerfile copies is in its build folder, because Docker sees nothing else."""
    folders = [contexts / "dagster", *(contexts / "jobs").iterdir()]
    assert len(folders) == 2
    for folder in folders:
        assert [path for path in copied(folder) if not path.exists()] == []


def test_job_folder_is_named_by_its_lock(contexts: Path) -> None:
    """A job folder has its lock's digest as its name, which the Dockerfile checks and the image reports."""
    (folder,) = (contexts / "jobs").iterdir()
    digest = hashlib.sha256((folder / "requirements.lock").read_bytes()).hexdigest()
    assert folder.name == f"base-{digest[:16]}"
    assert instructions(folder / "Dockerfile", "ARG") == [f"PACKAGES={folder.name}"]
    assert environment_variables(folder / "Dockerfile")["MLPIPE_IMAGE_PACKAGES"] == "${PACKAGES}"
    assert any("sha256sum" in line for line in instructions(folder / "Dockerfile", "RUN"))


def test_dagster_image_loads_the_project_and_finds_job_images(contexts: Path) -> None:
    """With only the files and paths of Dagster's image, definitions load and the job image is found."""
    folder = contexts / "dagster"
    assert environment_variables(folder / "Dockerfile")["PYTHONPATH"] == "/opt/mlpipe:/opt/mlpipe/project/src"
    image = folder.parent / "opt"
    subprocess.run(["cp", "-r", folder / "platform", image], check=True)
    subprocess.run(["cp", "-r", folder / "project", image / "project"], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=image,
        env={"PYTHONPATH": f"{image}:{image / 'project' / 'src'}", "HOME": str(image)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assets, platform, tag = ran.stdout.split()
    assert int(assets) > 5
    assert platform == str(image)
    assert tag == family_files(EXAMPLE.requirements, ROOT, None).image().tag


def test_dagster_home_is_complete(contexts: Path) -> None:
    """Dagster's image has its settings, a workspace set by variables, all packages and its own user."""
    home = contexts / "dagster" / "home"
    assert {path.name for path in home.iterdir()} == {"dagster.yaml", "workspace.yaml", "aws_config"}
    document: Any = yaml.safe_load((home / "workspace.yaml").read_text())
    (location,) = document["load_from"]
    assert location["grpc_server"]["location_name"] == {"env": "MLPIPE_LOCATION_NAME"}
    assert location["grpc_server"]["host"] == {"env": "MLPIPE_CODE_HOST"}
    lock = (contexts / "dagster" / "requirements.lock").read_text()
    for package in ("dagster", "dagster-webserver", "dagster-postgres", "dagster-aws"):
        assert re.search(rf"^{package}==", lock, re.MULTILINE), package
    assert instructions(contexts / "dagster" / "Dockerfile", "USER") == ["dagster"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with secret files, caches, and one model whose packages are not locked."""
    made = new_project(tmp_path / "acme")
    model = made.defs / "churn"
    model.mkdir()
    written = (EXAMPLE.defs / "flight_delay" / "defs.yaml").read_text()
    (model / "defs.yaml").write_text(
        written.replace("attributes:\n", "attributes:\n  requirements: boosting\n")
    )
    (model / "outcomes.py").touch()
    for path in (
        ".env",
        ".env.local",
        ".mlpipe/stack/ports.json",
        "stages.yaml",
        ".venv/bin/python",
        "src/acme/__pycache__/a.pyc",
    ):
        (made.root / path).parent.mkdir(parents=True, exist_ok=True)
        (made.root / path).write_text("secret")
    return made


def test_missing_or_stale_lock_stops_the_build(project: Project, tmp_path: Path) -> None:
    """If requirements are missing or their lock is stale, nothing is built and earlier folders stay."""
    (tmp_path / "images" / "jobs").mkdir(parents=True)
    with pytest.raises(RequirementsError, match=r"boosting.in does not exist"):
        write_build_contexts(project, tmp_path / "images")
    write_stale_lock(project, "boosting")
    with pytest.raises(RequirementsError, match=r"boosting.lock is out of date: boosting.in has changed"):
        write_build_contexts(project, tmp_path / "images")
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["jobs"]


def test_project_dockerfile_is_used_and_secrets_are_left_out(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project's own Dockerfile is used, and its secrets, caches and local files reach no image."""
    (project.defs / "churn" / "defs.yaml").unlink()
    (project.root / "images").mkdir()
    (project.root / "images" / "jobs.Dockerfile").write_text(
        "FROM own\nARG PACKAGES\nCOPY requirements.lock .\n"
    )
    monkeypatch.chdir(project.root)
    assert main([]) == 0
    dagster, jobs = (Path(line) for line in capsys.readouterr().out.splitlines())
    assert instructions(jobs / "Dockerfile", "FROM") == ["own"]
    assert instructions(jobs / "Dockerfile", "ARG") == [f"PACKAGES={jobs.name}"]
    assert [path for path in dagster.rglob("*") if path.is_file() and path.read_bytes() == b"secret"] == []


def test_project_without_src_folder_is_importable(tmp_path: Path) -> None:
    """The Python path of Dagster's image has the project's root if there is no folder src."""
    made = new_project(tmp_path / "acme")
    (made.root / "src" / "acme").rename(made.root / "acme")
    (made.root / "src").rmdir()
    dagster, _ = write_build_contexts(Project.at(made.root), tmp_path / "images")
    variables = environment_variables(dagster / "Dockerfile")
    assert variables["PYTHONPATH"] == "/opt/mlpipe:/opt/mlpipe/project"
