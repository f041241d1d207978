"""Runs a model's functions in the environment of its jobs, on sample data or on a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpipe_dagster.installed_platform import PLATFORM, program_environment
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs_document import inputs_document
from model_declaration.project import Project
from model_declaration.sample_data import sample_data_folder
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_image import BASE_FAMILY

_SECONDS = 1800
_STANDARD_ERROR = 2
# This package may not import these programs, so it starts them by name.
_LAUNCHER, _PROGRAM = "infra.environments.model_process", "sagemaker_scripts.try_model"
_REQUEST, _INPUTS, _COLUMNS, _ANSWER = "request.json", "inputs.json", "columns.json", "answer.json"


class TrialProcessError(ContractError):
    """A model could not be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialData:
    """Where a trial reads data from.

    Attributes:
        folder: A folder laid out like the data bucket; None for the project's sample data.
        bucket: The data bucket itself, read with this process's credentials; None for a folder.
    """

    folder: Path | None = None
    bucket: str | None = None


def run_trial(
    project: Project,
    declaration: ModelDeclaration,
    data: TrialData,
    *,
    action: str,
    partition: str | None,
    rows: int = 0,
) -> dict[str, Any]:
    """Run a trial and return its answer; it has an `error` with the project's own lines if a function failed.

    Args:
        project: The project.
        declaration: The model's declaration.
        data: Where to read data.
        action: `try` or `leaks`.
        partition: The partition; None for one that has data.
        rows: How many rows to show.

    Raises:
        SampleDataError: The project has no sample data, or its generator failed.
        TrialProcessError: The environment could not be made, or the process ended without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="mlpipe-try-") as scratch:
        folder = Path(scratch)
        document = {
            "action": action,
            "partition": partition,
            "rows": rows,
            **_declaration_members(declaration),
            **_data_members(project, data, action, partition),
            "source_folder": str(project.source_folder),
        }
        (folder / _REQUEST).write_text(json.dumps(document), encoding="utf-8")
        (folder / _INPUTS).write_bytes(inputs_document(declaration)[1])
        (folder / _COLUMNS).write_bytes(declaration.schema_document[1])
        _run(project, declaration, folder)
        try:
            answer: dict[str, Any] = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TrialProcessError(
                "The model's process ended without an answer; its output is above",
                remedy="Correct the fault that it names, then try again",
                model=declaration.name,
            ) from error
    return answer


def _declaration_members(declaration: ModelDeclaration) -> dict[str, Any]:
    tolerance = declaration.quality.tolerance
    sensitive = [column.name for column in declaration.columns if column.sensitive]
    return {
        "first": declaration.partitions.start,
        "end": declaration.partitions.end,
        "is_trained_here": declaration.training is not None,
        "looks_back": declaration.lookback > 0,
        "sensitive": sorted(
            declaration.cleaning_rules.stored_names(declaration.prediction_schema, sensitive)
        ),
        "quarantine_rows": tolerance.rows,
        "quarantine_rate": None if tolerance.rate is None else str(tolerance.rate),
    }


def _data_members(project: Project, data: TrialData, action: str, partition: str | None) -> dict[str, Any]:
    if data.bucket is not None:
        return {"folder": None, "earlier_folder": None, "bucket": data.bucket}
    if data.folder is not None:
        folder = data.folder.resolve()
        if not folder.is_dir():
            raise TrialProcessError(f"The folder {folder} does not exist", remedy="Correct --data")
        return {"folder": str(folder), "earlier_folder": None, "bucket": folder.name}
    folder = sample_data_folder(project)
    earlier = sample_data_folder(project, as_of=partition) if action == "leaks" and partition else None
    return {
        "folder": str(folder),
        "earlier_folder": None if earlier is None else str(earlier),
        "bucket": folder.name,
    }


def _run(project: Project, declaration: ModelDeclaration, folder: Path) -> None:
    family = declaration.requirements or BASE_FAMILY
    try:
        subprocess.run(
            [sys.executable, "-m", _LAUNCHER, family, _PROGRAM, str(folder)],
            # The platform's packages are in this folder, both in a checkout and when installed.
            cwd=PLATFORM,
            env=program_environment(project, os.environ),
            # The functions' own output must not mix with this command's.
            stdout=_STANDARD_ERROR,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialProcessError(
            f"The model's process did not finish in {_SECONDS} seconds",
            remedy="Try it on less data",
            model=declaration.name,
        ) from error
