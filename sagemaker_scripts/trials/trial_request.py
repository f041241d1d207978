"""What `mlpipe try` and `mlpipe check --leaks` ask of the process that runs a model's functions."""

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
        inputs: What the model's jobs are told.
        schema: The columns of its predictions.
        cleaning: What becomes of them on their way into the stores.
        tolerance: How many rows may be refused.
        sensitive: Columns, as the stores call them, whose values are not shown.
        partition: The partition to try; None for the newest one that there is data of.
        first: The model's first partition.
        end: The first that is no longer one; None for no end.
        is_trained_here: Whether the trial trains the model; otherwise it takes one that is there.
        looks_back: Whether the model gets a previous batch.
        rows: How many rows are shown.
        folder: The data, laid out as the data bucket; None for the bucket.
        earlier_folder: For `leaks`, the data as far as the project can tell what lay there earlier.
        bucket: The bucket's name; also of a folder, for messages.
        source_folder: The project's, for tracebacks.
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
        """Return the request that a folder holds; the command of the same version wrote it."""
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
        """Return where the data lies."""
        return self.store_at(self.folder)

    def store_at(self, folder: Path | None) -> ObjectStore:
        """Return a folder as the bucket, or the bucket itself with the credentials at hand."""
        if folder is None:
            return ObjectStore.of_job(self.bucket)
        return FolderStore(FolderClient(folder), self.bucket)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
