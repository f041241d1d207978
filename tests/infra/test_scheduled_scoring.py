"""Infrastructure and Dagster take the same values from a declaration."""

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
    """Give a project of models that SageMaker scores without Dagster."""
    return write_models(tmp_path / "project")


@pytest.fixture
def defs(project: Project) -> Path:
    """Give the folder of the project's models."""
    return project.defs


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_infrastructure_and_dagster_read_the_same_declaration(
    project: Project, defs: Path, model: str
) -> None:
    """Explicit values and defaults are read alike."""
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
def test_schedule_follows_the_declaration(defs: Path, model: str, expression: str, is_running: bool) -> None:
    """The cron expression suits EventBridge; without a declared schedule it is the default, not running."""
    declared = declaration_of(model, defs)
    assert scheduler_cron(declared.schedule.cron_of(declared.partitions)) == expression
    assert declared.schedule.running == is_running


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_documents_have_the_keys_that_dagster_uses(project: Project, model: str) -> None:
    """Schema and inputs have the same key and content, no matter who starts the scoring."""
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
def test_invalid_value_or_template_is_refused(
    project: Project, defs: Path, was: str, becomes: str, message: str
) -> None:
    """The error names file, line and field; AWS cannot fill in templates."""
    path = defs / HOURLY / "defs.yaml"
    text = path.read_text()
    path.write_text(text.replace(was, becomes))
    assert path.read_text() != text
    with pytest.raises(DeclarationError, match=re.escape(message)):
        provisioned_models(project)


@pytest.mark.parametrize("model", [HOURLY, DAILY])
def test_templates_in_descriptive_fields_change_nothing(project: Project, defs: Path, model: str) -> None:
    """Templates in description, owners, group and tags do not change the pipelines."""
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


def test_score_job_gets_the_declared_tolerance(defs: Path) -> None:
    """The score job refuses a batch by the same numbers as the load."""
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


def test_models_scored_by_dagster_have_no_scoring_pipeline() -> None:
    """Only their retraining pipelines are provisioned."""
    shipped = provisioned_models(EXAMPLE)
    assert all(each.scheduled is None for each in shipped)
    assert all(each.retrained is not None for each in shipped)
