"""Fixtures: all stages are synthesised once per session, shared by all workers."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import make_platform_environment
from infra.packaging import build_api_archive
from model_declaration.project import Project
from tests.infra.cdk.templates import Templates
from tests.infra.example_stages import STAGES
from tests.infra.sagemaker_models import write_models
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[3]
_SYNTHESIS_SECONDS = 280


def cdk_program(name: str) -> Path:
    """Return a program of the CDK's environment."""
    return make_platform_environment("cdk", cache_folder(os.environ), say=print).program(name)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Return the templates of both stages, as `make synth` writes them."""
    return _once(tmp_path_factory, "cdk", project=EXAMPLE.root)


@pytest.fixture(scope="session")
def scored_by_sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Return the templates of `prod` with the models of `sagemaker_models`, which SageMaker scores."""
    project = write_models(tmp_path_factory.mktemp("sagemaker"))
    return _once(tmp_path_factory, "cdk-sagemaker", "prod", project=project.root)


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, *arguments: str, project: Path) -> Templates:
    shared = tmp_path_factory.getbasetemp()
    # Under xdist, each worker has its own folder below the folder of the run.
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, measured = shared / name, shared / f"{name}-seconds.json"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not measured.exists():
            measured.write_text(json.dumps(_synthesise(folder, project, *arguments)))
    return Templates(folder, json.loads(measured.read_text()))


def _synthesise(folder: Path, project: Path, *arguments: str) -> float:
    # Synthesis needs the function's archive, whose packages are downloaded once.
    for stage in STAGES.values():
        build_api_archive(Project.at(project).packages, platform=stage.api.architecture)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(cdk_program("python")), "-m", "infra.app", "--out", str(folder), *arguments],
        cwd=ROOT,
        env={**offline(os.environ), "MLPIPE_PROJECT": str(project)},
        capture_output=True,
        text=True,
        timeout=_SYNTHESIS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def offline(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables without any access to AWS or HTTP, so that every lookup would fail."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("AWS_", "CDK_"))}
    nowhere = "http://127.0.0.1:9"
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere}
