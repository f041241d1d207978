"""Models that SageMaker itself scores, and executions of their pipelines as SageMaker would fill them in."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from model_declaration.project import Project

# A shipped model, daily and running, and one that says as little as it can, or all that there is to say. The
# last two names differ in what CloudFormation leaves out of its ids.
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
    """Return the declaration of each model by its name."""
    shipped = (EXAMPLE.defs / DAILY / "defs.yaml").read_text(encoding="utf-8")
    return {
        DAILY: shipped.replace("attributes:\n", f"attributes:\n{_SCHEDULED}"),
        LEAST: _HEAD + _LEAST,
        HOURLY: _HEAD + _HOURLY,
    }


def write_models(root: Path) -> Project:
    """Write a project with a folder for each model, those of the example with functions and reader."""
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
    """Return the request of each step's job, in the order of the steps.

    Args:
        definition: A pipeline's.
        parameters: Values by name; a definition that knows others is told so by a KeyError.
        execution_id: Of the execution.
    """
    known = {parameter["Name"] for parameter in definition["Parameters"]}
    assert known == set(parameters)
    values = {f"Parameters.{name}": value for name, value in parameters.items()}
    values["Execution.PipelineExecutionId"] = execution_id
    return {step["Name"]: _filled(step["Arguments"], values) for step in definition["Steps"]}


def _filled(document: Any, values: Mapping[str, str]) -> Any:
    if isinstance(document, dict):
        if set(document) == {"Get"}:
            return values[document["Get"]]
        return {name: _filled(value, values) for name, value in document.items()}
    return [_filled(value, values) for value in document] if isinstance(document, list) else document
