"""Jobs run in the image of their model's requirements, or in the platform's base image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions import retraining_definition, scoring_pipeline
from infra.definitions.retraining_steps import TRAIN_STEP
from infra.environments.family_locking import lock_family
from mlpipe_dagster.installed_platform import PLATFORM
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.scoring.predictions_asset import score_arguments
from mlpipe_dagster.settings import Settings
from model_declaration.job_requirements import RequirementsError, family_files, needed_families
from prediction_contract.jobs.job_arguments import FeatureArguments
from prediction_contract.jobs.job_image import JobImage
from tests.dagster.small_model import declaration
from tests.infra.retraining_definitions import steps_of
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.declaration import ModelDeclaration
    from model_declaration.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project with one locked requirements family."""
    made = new_project(tmp_path / "acme")
    made.requirements.mkdir()
    (made.requirements / "sorting.in").write_text("sortedcontainers\n")
    lock_family(family_files(made.requirements, PLATFORM, "sorting"))
    return made


def model(project: Project, requirements: str | None) -> ModelDeclaration:
    """Return a model of the project."""
    return declaration("churn", folder=project.defs / "churn", requirements=requirements)


def requests(declared: ModelDeclaration, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Return the requests of Dagster's features and score jobs and of the jobs of both pipelines."""
    settings = Settings.from_environment(environment)
    features = FeatureArguments(
        model="churn",
        partition="2013-02-01",
        bucket="mlpipe-data",
        run_id="run",
        code_version="1",
        inputs_key="models/churn/inputs.json",
    )
    score = score_arguments(
        declared,
        settings,
        partition="2013-02-01",
        batch_id="20130201T060000Z-0123abcd",
        attempt=1,
        schema_key="schemas/churn.json",
        inputs_key=features.inputs_key,
    )
    deployment, digest = settings.deployment, "0" * 64
    scoring = scoring_pipeline.pipeline_definition(deployment, declared, code_digest=digest)
    retraining = retraining_definition.pipeline_definition(deployment, declared, code_digest=digest)
    return [
        processing_request(settings, declared, "prepare_features.py", features),
        processing_request(settings, declared, "score_batch.py", score),
        *(step["Arguments"] for step in steps_of(scoring).values()),
        steps_of(retraining)[TRAIN_STEP]["Arguments"],
    ]


def images(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each request's image tag and the packages that its job needs."""
    *processing, training = found
    uris = [each["AppSpecification"]["ImageUri"] for each in processing]
    uris.append(training["AlgorithmSpecification"]["TrainingImage"])
    return [
        (uri.rpartition(":")[2], request["Environment"]["MLPIPE_NEEDED_PACKAGES"])
        for uri, request in zip(uris, found, strict=True)
    ]


@pytest.mark.parametrize("family", [None, "sorting"])
def test_jobs_use_image_of_their_models_requirements(
    project: Project, minimal_environment: dict[str, str], family: str | None
) -> None:
    """Features, scoring and training use the same packages; models without requirements share one image."""
    lock = project.requirements / "sorting.lock" if family else PLATFORM / "requirements" / "scoring.lock"
    image = JobImage.of_lock(family or "base", lock.read_bytes())
    found = requests(model(project, family), minimal_environment)
    assert images(found) == [(image.tag, image.tag)] * 5
    assert found[0]["AppSpecification"]["ImageUri"].startswith("registry.example/jobs:")


def test_stale_lock_stops_jobs_before_they_start(
    project: Project, minimal_environment: dict[str, str]
) -> None:
    """The error names the command to run before SageMaker is called."""
    (project.requirements / "sorting.in").write_text("sortedcontainers\nsix\n")
    with pytest.raises(RequirementsError, match="Run `mlpipe lock sorting`"):
        requests(model(project, "sorting"), minimal_environment)


def test_needed_families_are_those_that_models_name(project: Project) -> None:
    """A model whose declaration cannot be read may name any family, so all of them are needed."""
    plain, sorting = model(project, None), model(project, "sorting")
    assert set(needed_families(project, [plain])) == {None}
    assert set(needed_families(project, [plain, sorting, sorting])) == {None, "sorting"}
    assert set(needed_families(project, [plain, None])) == {None, "sorting"}
