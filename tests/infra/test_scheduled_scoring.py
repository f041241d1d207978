"""What infrastructure takes from a declaration is what Dagster takes from the same file."""

from __future__ import annotations

import re
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from infra.code_upload import upload_documents
from infra.definitions.retraining_definition import pipeline_definition
from infra.provisioned_models import provisioned_models
from mlpipe_dagster.scoring.predictions_asset import published_schema as published_by_dagster
from mlpipe_dagster.scoring.predictions_asset import score_arguments
from model_declaration.cron import scheduler_cron
from model_declaration.declaration_files import DeclarationError, declaration_in, declaration_of
from model_declaration.inputs_document import inputs_document
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST, write_models
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.project import Project

DEPLOYMENT = Deployment("local", "000000000000", "us-east-1")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Give a project of models that SageMaker itself scores."""
    return write_models(tmp_path / "project")


@pytest.fixture
def defs(project: Project) -> Path:
    """Give the folder of its models."""
    return project.defs


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_both_read_the_same(project: Project, defs: Path, model: str) -> None:
    """Whether a file says everything, or leaves all to defaults."""
    (read,) = [each for each in provisioned_models(project) if each.name == model]
    assert read.scheduled == declaration_in(defs / model / "defs.yaml")


@pytest.mark.parametrize(
    ("model", "expression", "is_running"),
    [
        (DAILY, "cron(30 5 ? * 2,3,4,5,6 *)", True),
        (LEAST, "cron(0 1 * * ? *)", False),
        (HOURLY, "cron(10 * * * ? *)", False),
    ],
)
def test_a_declaration_gives_the_schedule(defs: Path, model: str, expression: str, is_running: bool) -> None:
    """As EventBridge takes it; one that is not declared is the usual one, and does not run."""
    declared = declaration_of(model, defs)
    assert scheduler_cron(declared.schedule.cron_of(declared.partitions)) == expression
    assert declared.schedule.running == is_running


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_the_documents_lie_where_dagster_would_put_them(project: Project, model: str) -> None:
    """The same columns under the same key, whoever scores; and what the jobs read."""
    declared = declaration_of(model, project.defs)
    written: dict[str, bytes] = {}
    platform: Any = SimpleNamespace(bucket=SimpleNamespace(put=written.__setitem__))
    published_by_dagster(platform, declared)
    bucket: dict[str, bytes] = {}
    s3: Any = SimpleNamespace(put_object=lambda **call: bucket.update({call["Key"]: call["Body"]}))
    upload_documents(s3, DEPLOYMENT, [each for each in provisioned_models(project) if each.name == model])
    key, content = inputs_document(declared)
    assert {**written, key: content} == bucket


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("lookback: 0", "lookback: -1", "least_things_/defs.yaml:9 attributes.lookback: "),
        (
            "lookback: 0",
            "lookback: \"{{ env('BACK') }}\"",
            "least_things_/defs.yaml:9 attributes.lookback: a template is not allowed here",
        ),
        (
            "window: 48",
            "window: \"{{ env('WINDOW') }}\"",
            ":10 attributes.training: a template is not allowed here",
        ),
        (
            "lookback: 0",
            "lookback: \"{{ env('BACK') }}\"",
            "Write the value itself; templates are allowed in description, group, owners, tags",
        ),
    ],
)
def test_what_cannot_be_provisioned_is_reported(
    project: Project, defs: Path, was: str, becomes: str, message: str
) -> None:
    """A wrong value by file, line and field; a template as well, as nothing on AWS could fill it in."""
    path = defs / HOURLY / "defs.yaml"
    text = path.read_text()
    path.write_text(text.replace(was, becomes))
    assert path.read_text() != text
    with pytest.raises(DeclarationError, match=re.escape(message)):
        provisioned_models(project)


@pytest.mark.parametrize("model", [HOURLY, DAILY])
def test_templates_may_stand_in_what_is_for_people(project: Project, defs: Path, model: str) -> None:
    """Nothing on AWS is made of description, owners, group and tags: the pipelines are as without them."""
    path = defs / model / "defs.yaml"
    text = path.read_text()
    if model == DAILY:
        text = text.replace("  produced_by: sagemaker\n", "")
    path.write_text(text)
    (plain,) = [each for each in provisioned_models(project) if each.name == model]
    for field in ("description", "owners", "group", "tags"):
        text = re.sub(rf"^  {field}: .*\n", "", text, flags=re.MULTILINE)
    templates = (
        "  description: \"{{ env('KIND') }}\"\n  owners: [\"{{ env('OWNER') }}\"]\n"
        "  group: \"{{ env('GROUP') }}\"\n  tags: {team: \"{{ env('TEAM') }}\"}\n"
    )
    path.write_text(text.replace("attributes:\n", f"attributes:\n{templates}"))
    (read,) = [each for each in provisioned_models(project) if each.name == model]
    assert read.inputs == plain.inputs
    assert (read.scheduled is None) is (plain.scheduled is None) is (model == DAILY)
    assert read.retrained is not None
    assert plain.retrained is not None
    made = [
        pipeline_definition(DEPLOYMENT, each, code_digest="ab" * 32)
        for each in (read.retrained, plain.retrained)
    ]
    assert made[0] == made[1]


def test_dagster_tells_its_score_job_what_the_model_tolerates(defs: Path) -> None:
    """The job fails by the same numbers as the load of its batch."""
    declared = declaration_of(HOURLY, defs)
    deployment = SimpleNamespace(registry_table="registry")
    settings: Any = SimpleNamespace(data_bucket="mlpipe-data", deployment=deployment, code_version="v")
    arguments = score_arguments(
        declared,
        settings,
        partition="2013-02-01T05",
        batch_id="20130201T060000Z-00000001",
        attempt=1,
        schema_key=f"models/{HOURLY}/schema.json",
        inputs_key=f"models/{HOURLY}/inputs.json",
    )
    assert arguments.tolerance == declared.quality.tolerance == QuarantineTolerance(3, Decimal("0.01"))
    assert arguments.chunk_rows == declared.scoring.chunk_rows == 5000


def test_models_that_dagster_scores_are_retrained_alone() -> None:
    """No pipeline that scores is provisioned of them."""
    shipped = provisioned_models(EXAMPLE)
    assert all(each.scheduled is None for each in shipped)
    assert all(each.retrained is not None for each in shipped)
