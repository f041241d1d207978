"""What trying again cannot mend leaves one failed run, whatever the instance's retries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

from mlpipe_dagster.asset_names import chosen_batch_tag
from mlpipe_dagster.assets.tables import tables_asset
from mlpipe_dagster.resources.job_runs import GlueJobs
from mlpipe_dagster.resources.warehouse import Warehouse
from tests.pipeline.small_model import PARTITION, SmallModel
from tests.pipeline.test_instances import LOCAL

pytestmark = pytest.mark.stack


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that retries failed runs."""
    (tmp_path / "dagster.yaml").write_bytes(LOCAL.read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def test_a_refused_batch_is_not_tried_again_by_policy(
    instance: dg.DagsterInstance, small_model: SmallModel
) -> None:
    """Neither the step nor the run is: there is one failure to look at, and it says why."""
    batch_id = small_model.noticed_batch()
    small_model.refuse(batch_id)
    platform = small_model.platform
    result = dg.materialize(
        [tables_asset(small_model.declaration, small_model.partitions)],
        partition_key=PARTITION,
        instance=instance,
        resources={
            "platform": platform,
            "warehouse": Warehouse(platform=platform),
            "glue_jobs": GlueJobs(platform=platform),
        },
        tags={chosen_batch_tag(small_model.name): batch_id},
        raise_on_error=False,
    )
    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.error is not None
    assert "part-00000 is missing" in failure.step_failure_data.error.message
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert instance.run_retries_max_retries > 0
    assert not auto_reexecution_should_retry_run(instance, run, RunFailureReason.STEP_FAILURE)
