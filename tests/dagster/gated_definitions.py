"""The definitions for killed run workers: a real model that trains on two days."""

from __future__ import annotations

from typing import Any

import dagster as dg
import yaml

from mlpipe_dagster.components.prediction_pipeline import partitions_of, pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.asset_names import FEATURES, asset_key
from model_declaration.declaration import ModelDeclaration
from tests.projects import EXAMPLE

MODEL = "airport_congestion"
FEATURES_JOB = "features_of_days"
HISTORY_DAYS = 7
# The last prepared day holds the outcomes of the day before, the last one to train on.
FIRST_PREPARED, LAST_PREPARED, SCORED = "2013-01-09", "2013-01-11", "2013-01-12"


def declaration() -> ModelDeclaration:
    """Return the declaration of the example model with a shorter history and training window."""
    folder = EXAMPLE.defs / MODEL
    document: Any = yaml.safe_load((folder / "defs.yaml").read_text(encoding="utf-8"))
    declared = document["attributes"]
    flights = {**declared["sources"]["flights"], "history": HISTORY_DAYS}
    training = {"window": 2, "approval": "manual"}
    return ModelDeclaration.model_validate(
        {**declared, "name": MODEL, "folder": folder, "sources": {"flights": flights}, "training": training}
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Build the model's definitions."""
    declared = declaration()
    features = dg.define_asset_job(
        FEATURES_JOB,
        selection=dg.AssetSelection.assets(asset_key(MODEL, FEATURES)),
        partitions_def=partitions_of(declared),
    )
    model = pipeline_definitions(declared)
    return dg.Definitions.merge(model, platform_definitions(model), dg.Definitions(jobs=[features]))
