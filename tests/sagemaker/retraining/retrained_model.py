"""A churn model on an in-memory bucket, with spending of about ten per visit, and its retraining steps."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import Judging, ModelInputs, Source
from prediction_contract.jobs.retraining_arguments import (
    JudgeArguments,
    PlanRetrainingArguments,
    RetrainingStepArguments,
)
from prediction_contract.naming.s3_layout import candidates_prefix
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, VersionState
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.learning.model_artifact import INDEX_FILE, found_model, save_model
from sagemaker_scripts.retraining.candidate_training import train_candidate
from sagemaker_scripts.retraining.judging import find_or_make_verdict
from sagemaker_scripts.retraining.retraining_planning import find_or_make_plan
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prediction_contract.jobs.pinned_model import PinnedModel
    from prediction_contract.jobs.retraining_plan import RetrainingPlan
    from prediction_contract.jobs.verdict import Verdict

NOW = datetime(2013, 3, 1, tzinfo=UTC)
DAYS = [f"2013-02-{day:02}" for day in range(1, 21)]
REGIONS = ("north", "south")
ENTITIES = 120
SCHEMA_KEY = "models/churn/schema.json"
SCHEMA = {
    "key": "entity_id",
    "columns": [
        {"name": "entity_id", "type": "string", "nullable": False},
        {"name": "region", "type": "string", "nullable": False},
        {"name": "spending", "type": "double", "nullable": True},
    ],
}
FEATURES = """
def features(partition, visits):
    own = visits[visits["partition"] == partition]
    return own[["entity_id", "region", "visits"]]
"""
OUTCOMES = """
def outcomes(partition, visits):
    before = visits[visits["partition"] != partition]
    return before[["partition", "entity_id", "spent"]].assign(big=before["spent"] > 40)
"""
TRAIN = """
def train(examples):
    return {"rate": float((examples["spent"] / examples["visits"]).mean())}
"""
PREDICT = """
import pandas as pd

def predict(features, model, previous):
    spending = model["rate"] * features["visits"].astype("float64")
    if "south" in model:
        there = model["south"] * features["visits"].astype("float64")
        spending = spending.where(features["region"] != "south", there)
    return pd.DataFrame(
        {"entity_id": features["entity_id"], "region": features["region"], "spending": spending}
    )
"""
FUNCTIONS = {"features": FEATURES, "outcomes": OUTCOMES, "train": TRAIN, "predict": PREDICT}
MAE = Metric("mae", "spending", "spent")


@dataclass
class Versions:
    """An in-memory registry of one model's versions.

    Attributes:
        records: The versions by number.
        pointer: The champion pointer; None before the first promotion.
    """

    records: dict[int, ModelVersion] = field(default_factory=dict)
    pointer: ChampionPointer | None = None

    def champion(self, model: str) -> ChampionPointer | None:
        """Return the champion pointer."""
        assert model == "churn"
        return self.pointer

    def model_version(self, model: str, version: int) -> ModelVersion | None:
        """Return the record of a version."""
        assert model == "churn"
        return self.records.get(version)

    def model_versions(self, model: str, *, page_size: int | None = None) -> Iterator[ModelVersion]:
        """Yield all records, newest first."""
        assert model == "churn"
        assert page_size
        yield from (self.records[number] for number in sorted(self.records, reverse=True))

    def add(self, pinned: PinnedModel, **facts: Any) -> ModelVersion:
        """Add an approved version, or one changed by `facts`."""
        number = len(self.records) + 1
        record = ModelVersion(
            model="churn",
            version=number,
            digest=pinned.digest,
            artifact_key=pinned.key,
            artifact_sha256=pinned.sha256,
            package_arn=f"arn:aws:sagemaker:us-east-1:000000000000:model-package/churn/{number}",
            created_at="2013-02-01T00:00:00Z",
            **{"state": VersionState.APPROVED, "approval": "Approved", **facts},
        )
        self.records[number] = record
        return record

    def crown(self, pinned: PinnedModel, **facts: Any) -> ModelVersion:
        """Add a version, and make it the champion."""
        record = self.add(pinned, **{"state": VersionState.CHAMPION, "trained_until": "2013-02-05", **facts})
        self.pointer = ChampionPointer(
            model="churn", version=record.version, digest=record.digest, sequence=record.version
        )
        return record


@dataclass
class RetrainedModel:
    """One model on an in-memory bucket.

    Attributes:
        folder: Where training writes.
        inputs: The model's inputs.
        store: The bucket in memory.
        registry: The model's versions.
    """

    folder: Path
    inputs: ModelInputs
    store: ObjectStore = field(default_factory=lambda: ObjectStore(MemoryS3(), "mlpipe-data"))
    registry: Versions = field(default_factory=Versions)

    def __post_init__(self) -> None:
        self.store.put(SCHEMA_KEY, schema_document())

    def deliver(self, days: Sequence[str]) -> None:
        """Upload the visits and spending of the given days."""
        for day in days:
            self.store.put(f"raw/visits/{day}.csv", visits_of(day))

    def judged_by(self, *metrics: Metric, **judging: Any) -> None:
        """Change the model's metrics and judging options."""
        changed = replace(self.inputs.judging or Judging(), **judging)
        self.inputs = replace(self.inputs, metrics=metrics, judging=changed)

    def arguments(self, execution_id: str, **changes: Any) -> PlanRetrainingArguments:
        """Upload the inputs, and return the arguments of an execution's planning step."""
        key, content = self.inputs.to_document()
        self.store.put(key, content)
        given: dict[str, Any] = {"window": 6, "held_out": 4, "gap": 1}
        given |= {"registry_table": "registry", "schedule": "ended:2013-02-01", "code_version": "v"}
        given |= {"inputs_key": key, "schema_key": SCHEMA_KEY}
        return PlanRetrainingArguments(
            model="churn", bucket="mlpipe-data", execution_id=execution_id, **given | changes
        )

    def plan(self, execution_id: str = "one", *, now: datetime = NOW, **changes: Any) -> RetrainingPlan:
        """Plan an execution."""
        arguments = self.arguments(execution_id, **changes)
        return find_or_make_plan(arguments, self.store, self.registry, self.inputs, now=now)

    def train(self, execution_id: str = "one", **changes: Any) -> str:
        """Train the candidate of a planned execution, and return its archive's address."""
        arguments = self.arguments(execution_id, **changes)
        step = RetrainingStepArguments(
            **{name: getattr(arguments, name) for name in RetrainingStepArguments.__dataclass_fields__}
        )
        folder = self.folder / execution_id
        folder.mkdir(exist_ok=True)
        train_candidate(step, self.store, folder)
        return self.store.address(
            self._packed(folder, f"{candidates_prefix('churn')}job-{execution_id}/output/")
        )

    def judge(self, candidate: str, execution_id: str = "one", **changes: Any) -> Verdict:
        """Judge the candidate of an execution."""
        arguments = self.arguments(execution_id, **changes)
        step = JudgeArguments(
            candidate=candidate,
            **{name: getattr(arguments, name) for name in RetrainingStepArguments.__dataclass_fields__},
        )
        return find_or_make_verdict(step, self.store, self.inputs)

    def retrain(self, execution_id: str = "one", **changes: Any) -> Verdict:
        """Plan, train and judge, and return the verdict."""
        self.plan(execution_id, **changes)
        named = {name: changes[name] for name in ("code_version",) if name in changes}
        return self.judge(self.train(execution_id, **named), execution_id, **named)

    def index(self, execution_id: str = "one") -> dict[str, Any]:
        """Return the index of the model that an execution trained."""
        return json.loads((self.folder / execution_id / INDEX_FILE).read_text())

    def candidate(self, model: Any, execution_id: str = "one") -> str:
        """Upload the archive of a given model as if it had been trained, and return its address."""
        return self.store.address(
            self.archive(model, f"{candidates_prefix('churn')}given-{execution_id}/output/")
        )

    def archive(self, model: Any, prefix: str) -> str:
        """Upload the archive of a model below a prefix, and return its key."""
        folder = self.folder / prefix.replace("/", "-")
        folder.mkdir()
        save_model(folder, "churn", model, {}, Codecs())
        return self._packed(folder, prefix)

    def champion(self, model: Any, **facts: Any) -> ModelVersion:
        """Make a given model the champion."""
        number = len(self.registry.records) + 1
        key = self.archive(model, f"{candidates_prefix('churn')}earlier-{number}/output/")
        return self.registry.crown(found_model(self.store, "churn", key), **facts)

    def _packed(self, folder: Path, prefix: str) -> str:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(folder, arcname=".")
        self.store.put(f"{prefix}model.tar.gz", packed.getvalue())
        return f"{prefix}model.tar.gz"


def schema_document() -> bytes:
    """Return the schema document of the predictions."""
    return json.dumps(SCHEMA).encode()


@cache
def visits_of(day: str, *, rate: int = 10) -> bytes:
    """Return the visits of a day as CSV, with spending of about `rate` per visit."""
    chance = np.random.default_rng(int(day.replace("-", "")))
    visits, noise = chance.integers(1, 9, ENTITIES), chance.normal(0, 4, ENTITIES)
    lines = [
        f"e{number},{REGIONS[number % 2]},{visits[number]},{rate * visits[number] + noise[number]:.2f}"
        for number in range(ENTITIES)
    ]
    return "\n".join(["entity_id,region,visits,spent", *lines]).encode()


def inputs_of(functions: str) -> ModelInputs:
    """Return the inputs of a model with functions in the given package."""
    visits = Source(
        name="visits",
        format="csv",
        path="raw/visits/{partition}.csv",
        history=2,
        columns=(("entity_id", "string"), ("region", "string"), ("visits", "long"), ("spent", "double")),
    )
    judging = Judging(slices=("region",), is_approved_by_rule=True)
    return ModelInputs(
        model="churn",
        functions=functions,
        sources=(visits,),
        outcomes=True,
        metrics=(MAE, Metric("r2", "spending", "spent")),
        judging=judging,
    )
