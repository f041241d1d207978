"""What infrastructure reads of a declaration is what Dagster reads of the same file."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.scoring_pipeline import published_schema
from infra.model_declarations import DeclaredModel, model_declarations
from mlpipe_dagster.declaration.file import declaration_in
from mlpipe_dagster.scoring.predictions_asset import published_schema as published_by_dagster
from mlpipe_dagster.scoring.predictions_asset import score_arguments
from prediction_contract.jobs.quarantine_tolerance import QuarantineTolerance
from prediction_contract.jobs.scheduler_cron import scheduler_cron
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST, write_models

if TYPE_CHECKING:
    from pathlib import Path

    from mlpipe_dagster.declaration import ModelDeclaration


@pytest.fixture
def defs(tmp_path: Path) -> Path:
    """Give a folder of models that SageMaker itself scores."""
    return write_models(tmp_path / "defs")


def both(defs: Path, model: str) -> tuple[DeclaredModel, ModelDeclaration]:
    """Return one declaration as infrastructure and as Dagster read it."""
    (read,) = [each for each in model_declarations(defs) if each.name == model]
    declared = declaration_in(defs / model / "defs.yaml")
    assert declared is not None
    return read, declared


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_both_read_the_same(defs: Path, model: str) -> None:
    """Whether a file says everything or leaves all to defaults."""
    read, declared = both(defs, model)
    scoring = read.scoring
    assert scoring is not None
    assert read.produced_by == declared.produced_by == "sagemaker"
    assert scoring.partitions == declared.partition_schedule
    assert scoring.expression == scheduler_cron(declared.schedule.cron_of(declared.partitions))
    assert scoring.is_running == declared.schedule.running
    assert (scoring.history_days, scoring.lookback) == (declared.history_days, declared.lookback)
    assert scoring.schema == declared.prediction_schema
    assert scoring.cleaning == declared.cleaning_rules
    assert scoring.tolerance == declared.quality.tolerance
    compute = declared.processing
    assert (scoring.instance_type, scoring.volume_gb, scoring.max_runtime_seconds) == (
        compute.instance_type,
        compute.volume_gb,
        compute.max_runtime_seconds,
    )


@pytest.mark.parametrize("model", [DAILY, LEAST, HOURLY])
def test_the_schema_lies_where_dagster_would_put_it(defs: Path, model: str) -> None:
    """The same document under the same key, whoever scores."""
    read, declared = both(defs, model)
    written: dict[str, bytes] = {}
    platform: Any = SimpleNamespace(bucket=SimpleNamespace(put=written.__setitem__))
    published_by_dagster(platform, declared)
    assert read.scoring is not None
    assert written == dict([published_schema(model, read.scoring)])


def test_dagster_tells_its_score_job_what_the_model_tolerates(defs: Path) -> None:
    """The job fails by the same numbers as the load of its batch."""
    _, declared = both(defs, HOURLY)
    deployment = SimpleNamespace(registry_table="registry")
    settings: Any = SimpleNamespace(data_bucket="mlpipe-data", deployment=deployment, code_version="v")
    arguments = score_arguments(
        declared,
        settings,
        partition="2013-02-01T05",
        batch_id="20130201T060000Z-00000001",
        attempt=1,
        schema_key=f"models/{HOURLY}/schema.json",
    )
    assert arguments.tolerance == declared.quality.tolerance == QuarantineTolerance(3, Decimal("0.01"))


def test_models_that_dagster_scores_have_none() -> None:
    """Nothing of them is provisioned beside tables, package group and alarms."""
    shipped = model_declarations()
    assert {each.produced_by for each in shipped} == {"dagster"}
    assert {each.scoring for each in shipped} == {None}
