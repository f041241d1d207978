"""The request of `mlpipe try` and `mlpipe check --leaks` to the process that runs a model's functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.trials.folder_client import FolderClient, FolderStore

REQUEST_FILE, INPUTS_FILE, COLUMNS_FILE = "request.json", "inputs.json", "columns.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """A request.

    Attributes:
        action: `try` or `leaks`.
        inputs: The inputs of the model's jobs.
        schema: The columns of the model's predictions.
        cleaning: The load's cleaning rules.
        tolerance: How many rows may be refused.
        sensitive: The columns whose values are hidden, by their names in the stores.
        partition: The partition to try; None for the newest one with data.
        first: The model's first partition.
        end: The first partition after the model's last one; None for no end.
        is_trained_here: Whether the trial trains the model; otherwise it uses an existing one.
        looks_back: Whether the model receives a previous batch.
        rows: The maximum number of rows to show.
        folder: The data, in the layout of the data bucket; None to use the bucket.
        earlier_folder: For `leaks`, the earlier state of the data if the project can generate it.
        bucket: The bucket's name; with a folder, only for messages.
        source_folder: The project's source folder, for tracebacks.
    """

    action: str
    inputs: ModelInputs
    schema: PredictionSchema
    cleaning: Cleaning
    tolerance: QuarantineTolerance
    sensitive: frozenset[str]
    partition: str | None
    first: str
    end: str | None
    is_trained_here: bool
    looks_back: bool
    rows: int
    folder: Path | None
    earlier_folder: Path | None
    bucket: str
    source_folder: Path

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the request in a folder, which a command of the same version has written."""
        document: dict[str, Any] = json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8"))
        written = FolderStore(FolderClient(folder), "request")
        schema, cleaning = read_columns(written, COLUMNS_FILE)
        quarantine_rate = document.pop("quarantine_rate")
        return cls(
            inputs=ModelInputs.parse(written.get(INPUTS_FILE)),
            schema=schema,
            cleaning=cleaning,
            tolerance=QuarantineTolerance(
                rows=document.pop("quarantine_rows"),
                rate=None if quarantine_rate is None else Decimal(quarantine_rate),
            ),
            sensitive=frozenset(document.pop("sensitive")),
            folder=_path(document.pop("folder")),
            earlier_folder=_path(document.pop("earlier_folder")),
            source_folder=Path(document.pop("source_folder")),
            **document,
        )

    def store(self) -> ObjectStore:
        """Return the bucket or folder with the data."""
        return self.store_at(self.folder)

    def store_at(self, folder: Path | None) -> ObjectStore:
        """Return a folder as a bucket, or the bucket itself with the user's credentials."""
        if folder is None:
            return ObjectStore.of_job(self.bucket)
        return FolderStore(FolderClient(folder), self.bucket)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
