"""Scoring pipelines start their jobs with the same requests as Dagster."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.scoring_pipeline import FEATURES_STEP, SCORE_STEP, pipeline_definition
from infra.packaging import build_sagemaker_code
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.settings import Settings as DagsterSettings
from model_declaration.cron import scheduler_cron
from model_declaration.declaration_files import declaration_of
from model_declaration.inputs_document import inputs_document
from prediction_batches.object_store import storage_options
from prediction_contract.jobs.job_arguments import FeatureArguments, ScoreArguments
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from tests.dagster.scoring.test_scoring_schedule import MONTHLY, WEEKLY
from tests.dagster.small_model import declaration as small_declaration
from tests.infra.cdk.dagster_tasks import containers, variables
from tests.infra.cdk.scoring_pipelines import DEPLOYMENT, EXECUTION, MODELS, TICK, definition, valid
from tests.infra.cdk.synthesis import ROOT
from tests.infra.cdk.templates import HOME
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST, requests, write_models

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.cdk.templates import Templates


@pytest.mark.parametrize(
    ("model", "tick", "partition"),
    [
        (DAILY, TICK, "2013-02-03"),
        (LEAST, "2013-02-04T01:00:00Z", "2013-02-03"),
        (HOURLY, "2013-02-04T01:10:00Z", "2013-02-04T01"),
    ],
)
def test_jobs_parse_their_command_lines(
    scored_by_sagemaker: Templates, tmp_path: Path, model: str, tick: str, partition: str
) -> None:
    """Both jobs get the same partition, run and inputs, and read the uploaded documents."""
    found = requests(definition(scored_by_sagemaker, model), {"ScheduledAt": tick}, EXECUTION)
    features = FeatureArguments.parse(_arguments(found[FEATURES_STEP]))
    score = ScoreArguments.parse(_arguments(found[SCORE_STEP]))
    declared = declaration_of(model, write_models(tmp_path / "project").defs)
    assert (features.due_partition(), score.due_partition()) == (partition, partition)
    assert (features.run_id, score.run_id) == (EXECUTION, EXECUTION)
    assert (features.model, score.model) == (model, model)
    assert score.schema_key == declared.schema_document[0]
    assert features.inputs_key == score.inputs_key == inputs_document(declared)[0]
    assert score.registry_table == DEPLOYMENT.registry_table
    stated = QuarantineTolerance(3, Decimal("0.01")) if model == HOURLY else QuarantineTolerance()
    assert score.tolerance == declared.quality.tolerance == stated
    assert score.lookback == declared.lookback
    assert score.chunk_rows == declared.scoring.chunk_rows == (5000 if model == HOURLY else None)
    for request in found.values():
        assert storage_options(request["Environment"])["AWS_REGION"] == HOME


def _arguments(request: dict[str, Any]) -> list[str]:
    return request["AppSpecification"]["ContainerArguments"]


@pytest.mark.parametrize("model", MODELS)
def test_requests_equal_dagsters_requests(scored_by_sagemaker: Templates, tmp_path: Path, model: str) -> None:
    """Machine, image, code, role and environment are the same, and the requests are valid."""
    found = requests(definition(scored_by_sagemaker, model), {"ScheduledAt": TICK}, EXECUTION)
    project = write_models(tmp_path / "project")
    digest = build_sagemaker_code(project, tmp_path).digest
    declared = declaration_of(model, project.defs)
    settings = DagsterSettings.from_environment(variables(containers(scored_by_sagemaker, "prod")["run"]))
    parsers = {FEATURES_STEP: FeatureArguments, SCORE_STEP: ScoreArguments}
    scripts = {FEATURES_STEP: "prepare_features.py", SCORE_STEP: "score_batch.py"}
    for step, request in found.items():
        assert valid(
            "sagemaker", "CreateProcessingJob", {**request, "ProcessingJobName": f"pipelines-{step}"}
        )
        arguments = parsers[step].parse(_arguments(request))
        assert arguments.code_version == settings.code_version == digest[:16]
        instances = declared.processing.instances if step == SCORE_STEP else 1
        assert request == processing_request(
            settings, declared, scripts[step], arguments, instances=instances
        )
        assert request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == instances
        assert (ROOT / "sagemaker_scripts" / scripts[step]).exists()


@pytest.mark.parametrize(
    ("changes", "tick", "partition", "cron"),
    [
        (WEEKLY, "2013-02-04T01:00:00Z", "2013-W05", "cron(0 1 ? * 2 *)"),
        (MONTHLY, "2013-03-01T01:00:00Z", "2013-02", "cron(0 1 1 * ? *)"),
    ],
)
def test_week_and_month_are_scored_after_their_end(
    changes: dict[str, Any], tick: str, partition: str, cron: str
) -> None:
    """The default schedule scores the partition that ended an hour before."""
    model = small_declaration("things", produced_by="sagemaker", **changes)
    definition = pipeline_definition(DEPLOYMENT, model, code_digest="0" * 64)
    found = requests(definition, {"ScheduledAt": tick}, EXECUTION)
    score = ScoreArguments.parse(_arguments(found[SCORE_STEP]))
    assert FeatureArguments.parse(_arguments(found[FEATURES_STEP])).due_partition() == partition
    assert score.due_partition() == partition
    assert scheduler_cron(model.schedule.cron_of(model.partitions)) == cron
