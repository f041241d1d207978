"""The metadata of a job: console pages, usage, price and messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlpipe_dagster.job_clients.job_messages import LoggedMessages, message_text
from mlpipe_dagster.job_clients.job_metadata import (
    glue_job_run_page,
    glue_job_run_use,
    log_page,
    sagemaker_job_page,
    sagemaker_job_use,
)
from tests.fakes.pipes_messages import FakeMessageReader

BEGAN = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)


def test_console_pages_match_region_and_partition() -> None:
    """Links to the job and its log work in China and GovCloud, too."""
    assert sagemaker_job_page("eu-west-1", "Processing", "score-1") == (
        "https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/processing-jobs/score-1"
    )
    assert sagemaker_job_page("cn-north-1", "Training", "t").startswith(
        "https://cn-north-1.console.amazonaws.cn/"
    )
    assert glue_job_run_page("us-gov-west-1", "load", "jr_1") == (
        "https://us-gov-west-1.console.amazonaws-us-gov.com/gluestudio/home?region=us-gov-west-1"
        "#/job/load/run/jr_1"
    )
    assert log_page("us-east-1", "/aws-glue/jobs/output", "jr_1").endswith(
        "#logsV2:log-groups/log-group/$252Faws-glue$252Fjobs$252Foutput$3FlogStreamNameFilter$3Djr_1"
    )


def test_processing_job_costs_all_its_instances() -> None:
    """Its seconds run from start to end, without the time in the queue."""
    cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}
    description = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingStartTime": BEGAN,
        "ProcessingEndTime": BEGAN + timedelta(minutes=30),
    }
    used = sagemaker_job_use(description, "Processing", {"ml.m5.xlarge": 0.2})
    assert used == {
        "instance_type": "ml.m5.xlarge",
        "instance_count": 2,
        "job_seconds": 1800.0,
        "price_usd_per_hour": 0.2,
        "estimated_cost_usd": 0.2,
    }


def test_training_job_costs_its_billable_seconds() -> None:
    """Spot training bills fewer seconds than it takes."""
    description = {
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "TrainingStartTime": BEGAN,
        "TrainingEndTime": BEGAN + timedelta(hours=1),
        "BillableTimeInSeconds": 900,
    }
    used = sagemaker_job_use(description, "Training", {"ml.m5.large": 1.0})
    assert (used["job_seconds"], used["estimated_cost_usd"]) == (900.0, 0.25)


def test_missing_price_gives_no_estimate() -> None:
    """Without a configured price no cost is invented."""
    description = {
        "ResourceConfig": {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 1},
        "TrainingStartTime": BEGAN,
        "TrainingEndTime": BEGAN + timedelta(hours=1),
    }
    assert "estimated_cost_usd" not in sagemaker_job_use(description, "Training", {})
    assert "estimated_cost_usd" not in glue_job_run_use({"ExecutionTime": 60, "MaxCapacity": 2.0}, None)


@pytest.mark.parametrize(
    ("job_run", "dpu_seconds"),
    [
        ({"ExecutionTime": 600, "WorkerType": "G.2X", "NumberOfWorkers": 3}, 3600),
        ({"ExecutionTime": 5, "WorkerType": "G.1X", "NumberOfWorkers": 2}, 120),
        ({"ExecutionTime": 600, "WorkerType": "G.1X", "NumberOfWorkers": 9, "DPUSeconds": 1800.0}, 1800),
        ({"ExecutionTime": 60, "MaxCapacity": 0.5}, 30),
        ({"ExecutionTime": 60, "WorkerType": "Z.9X", "NumberOfWorkers": 2}, None),
    ],
)
def test_job_run_uses_at_least_a_minute_of_its_workers(
    job_run: dict[str, Any], dpu_seconds: float | None
) -> None:
    """Glue's own DPU seconds take precedence, and an unknown worker type gives no estimate."""
    used = glue_job_run_use(job_run, 0.44)
    assert used.get("dpu_seconds") == dpu_seconds
    expected = None if dpu_seconds is None else round(dpu_seconds / 3600 * 0.44, 6)
    assert used.get("estimated_cost_usd") == expected


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"kind": "progress", "step": "move", "rows": 12}, "The job reports progress: step=move rows=12"),
        ({"rows": 7, "previous": None}, "The job reports its result: rows=7"),
        ([1, 2], "The job reports: [1, 2]"),
        ({"kind": "engine", "name": "x" * 900}, f"The job reports engine: name={'x' * 900}"[:500]),
    ],
)
def test_message_text_is_one_line(payload: Any, text: str) -> None:
    """Any payload becomes a readable line of at most 500 characters."""
    assert message_text(payload) == text


def test_progress_of_one_step_is_shown_every_ten_seconds() -> None:
    """A new step is shown at once; more frequent lines would hide everything else."""
    moments = iter((0.0, 4.0, 7.0, 9.0, 18.5, 19.0))
    shown: list[str] = []
    steps = ("survey", "survey", "survey", "survey", "survey", "move")
    told = [
        {
            "method": "report_custom_message",
            "params": {"payload": {"kind": "progress", "step": step, "rows": rows}},
        }
        for rows, step in enumerate(steps)
    ]
    reader = FakeMessageReader(told)
    with LoggedMessages(reader, shown.append, clock=lambda: next(moments)).read_messages(reader):
        pass
    assert [line.rsplit("rows=", 1)[1] for line in shown] == ["0", "3", "4", "5"]
    assert reader.handled == told
