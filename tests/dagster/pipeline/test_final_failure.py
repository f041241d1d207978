"""A failed load is retried, but a refused batch is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

from mlpipe_dagster.loading.tables_asset import tables_asset
from mlpipe_dagster.pipeline.asset_names import selected_batch_tag
from mlpipe_dagster.resources.job_resources import GlueJobs
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.registry.records import LoadState
from tests.dagster.load_job_on_glue import Job, load_script, load_script_in_turn
from tests.dagster.small_model import PARTITION, SmallModel
from tests.dagster.test_instances import LOCAL

pytestmark = pytest.mark.stack


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Make an instance that retries failed runs."""
    (tmp_path / "dagster.yaml").write_bytes(LOCAL.read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def loaded(instance: dg.DagsterInstance, small_model: SmallModel, batch_id: str) -> dg.ExecuteInProcessResult:
    """Materialize both tables of a batch with the load job of the model's stage."""
    platform = small_model.platform
    return dg.materialize(
        [tables_asset(small_model.declaration, small_model.partitions)],
        partition_key=PARTITION,
        instance=instance,
        resources={
            "platform": platform,
            "warehouse": Warehouse(platform=platform),
            "glue_jobs": GlueJobs(platform=platform, longest_pause_seconds=0.5),
        },
        tags={selected_batch_tag(small_model.name): batch_id},
        raise_on_error=False,
    )


def test_failed_load_is_retried_by_its_step(instance: dg.DagsterInstance, small_model: SmallModel) -> None:
    """After one failed attempt the same step loads the batch with a second one."""
    job = Job(small_model.platform)
    job.define(load_script_in_turn("release", "complete"))
    batch_id = small_model.registered_batch()
    result = loaded(instance, small_model, batch_id)
    assert result.success
    assert [event.event_type_value for event in result.all_events].count("STEP_UP_FOR_RETRY") == 1
    assert job.runs() == ["SUCCEEDED", "FAILED"]
    shown = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization and event.asset_key is not None
    }
    assert shown.keys() == {"dynamodb", "snowflake"}
    online_table = small_model.platform.settings.deployment.online_table(small_model.name)
    assert shown["dynamodb"]["dagster/table_name"].value == online_table
    assert {table: metadata["dagster/row_count"].value for table, metadata in shown.items()} == {
        "dynamodb": 3,
        "snowflake": 3,
    }
    record = small_model.record(batch_id)
    assert (record.load_state, record.load_attempts) == (LoadState.LOADED, 2)


@pytest.mark.slow
def test_repeatedly_failing_load_is_left_to_run_retries(
    instance: dg.DagsterInstance, small_model: SmallModel
) -> None:
    """After three attempts the run fails, the run retry policy applies, and a later run loads the batch."""
    job = Job(small_model.platform)
    job.define(load_script("release"))
    batch_id = small_model.registered_batch()
    result = loaded(instance, small_model, batch_id)
    assert not result.success
    assert job.runs() == ["FAILED"] * 3
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert auto_reexecution_should_retry_run(instance, run, RunFailureReason.STEP_FAILURE)
    job.define(load_script("complete"))
    assert loaded(instance, small_model, batch_id).success
    assert small_model.record(batch_id).load_attempts == 4


def test_refused_batch_is_not_retried(instance: dg.DagsterInstance, small_model: SmallModel) -> None:
    """Neither step nor run is retried, and the one failure names the reason."""
    batch_id = small_model.registered_batch()
    small_model.refuse(batch_id)
    result = loaded(instance, small_model, batch_id)
    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.error is not None
    assert "part-00000 is missing" in failure.step_failure_data.error.message
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert instance.run_retries_max_retries > 0
    assert not auto_reexecution_should_retry_run(instance, run, RunFailureReason.STEP_FAILURE)
