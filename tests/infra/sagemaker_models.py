"""Models that SageMaker scores without Dagster, and the job requests of their pipelines."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.job_executor.sagemaker.pipelines.definition import read_definition
from infra.local.job_executor.sagemaker.pipelines.parameters import values_of
from infra.local.job_executor.sagemaker.pipelines.values import Values
from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from model_declaration.project import Project

# DAILY is a shipped model that is scheduled and running; LEAST declares as little as possible and HOURLY as
# much as possible. The last two names differ only in characters that CloudFormation omits from its ids.
DAILY, LEAST, HOURLY = "flight_delay", "least_things", "least_things_"
_HEAD = "type: mlpipe.PredictionPipeline\n\nattributes:\n"
_LEAST = """
  description: A number for each thing.
  produced_by: sagemaker
  partitions: {start: 2013-01-01}
  training: {window: 30}
  columns:
    - {name: entity_id, type: string, nullable: false, key: true}
    - {name: score, type: "decimal(7,2)"}
"""
_HOURLY = """
  description: A number for each thing.
  produced_by: sagemaker
  partitions: {kind: hourly, start: "2013-01-01T05", end: "2014-01-01T00"}
  schedule: {partition: current, running: false}
  lookback: 0
  training: {window: 48, held_out: 12, schedule: "40 5 * * 1"}
  quality: {quarantine_rows: 3, quarantine_rate: 0.01}
  scoring: {chunk_rows: 5000}
  processing: {instance_type: ml.c5.large, volume_gb: 7, max_runtime_seconds: 900, instances: 3}
  columns:
    - {name: entity_id, type: string, nullable: false, key: true}
    - {name: score, type: long, nullable: false, description: Anything.}
    - {name: share, type: double}
  cleaning:
    - {column: entity_id, trim: true, rename: thing}
    - {column: share, default: 0.5, clamp: {minimum: 0.000000001, maximum: "0.9"}}
"""
_SCHEDULED = '  produced_by: sagemaker\n  schedule: {cron: "30 5 * * 1-5", running: true}\n'


def texts() -> dict[str, str]:
    """Return the text of each model's declaration by name."""
    shipped = (EXAMPLE.defs / DAILY / "defs.yaml").read_text(encoding="utf-8")
    return {
        DAILY: shipped.replace("attributes:\n", f"attributes:\n{_SCHEDULED}"),
        LEAST: _HEAD + _LEAST,
        HOURLY: _HEAD + _HOURLY,
    }


def write_models(root: Path) -> Project:
    """Write a project with these models; the example's model keeps its functions and reader."""
    project = new_project(root, EXAMPLE.package)
    shutil.copy(EXAMPLE.stages_file, root)
    shutil.copytree(EXAMPLE.defs / DAILY, project.defs / DAILY)
    shutil.copy(EXAMPLE.package_folder / "readers.py", project.package_folder)
    for model, text in texts().items():
        (project.defs / model).mkdir(exist_ok=True)
        (project.defs / model / "defs.yaml").write_text(text, encoding="utf-8")
    return project


def requests(
    definition: Mapping[str, Any], parameters: Mapping[str, str], execution_id: str
) -> dict[str, dict[str, Any]]:
    """Return the job request of each step, in order, as the local executor fills it in.

    Args:
        definition: A pipeline's definition, whose steps do not depend on each other.
        parameters: Values by name.
        execution_id: The execution's id.
    """
    read = read_definition(json.dumps(definition))
    given = [{"Name": name, "Value": text} for name, text in parameters.items()]
    values = Values(
        steps=read.steps,
        parameters=values_of(read.parameters, given),
        variables={"PipelineExecutionId": execution_id},
        answers={},
        read=lambda uri: pytest.fail(f"{uri} is read"),
    )
    return {name: values.filled(step.arguments) for name, step in read.steps.items()}
