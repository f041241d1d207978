"""Run the jobs of a model's retraining on the local stack, step by step."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from model_declaration.partitions import Training
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import Judging
from prediction_contract.jobs.retraining_arguments import (
    JudgeArguments,
    PlanRetrainingArguments,
    RetrainingStepArguments,
)
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.s3_layout import retraining_prefix
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import VersionState
from sagemaker_scripts.learning.model_artifact import found_model
from tests.sagemaker.declared_models import INPUTS
from tests.sagemaker.registered_versions import promote_version, version_record
from tests.sagemaker.scoring_jobs import CODE_VERSION

if TYPE_CHECKING:
    from prediction_contract.jobs.model_inputs import ModelInputs
    from tests.sagemaker.scoring_jobs import ScoringJobs

EXAMPLE_MODEL = "flight_delay"


class Retrained(NamedTuple):
    """The results of a retraining.

    Attributes:
        plan: The plan.
        verdict: The verdict on the candidate.
    """

    plan: RetrainingPlan
    verdict: Verdict


@dataclass(frozen=True)
class RetrainingJobs:
    """The retraining jobs of one model.

    Attributes:
        jobs: Starts them.
        inputs: The model's inputs.
        schema_key: Key of the schema document of its predictions.
        training: How many partitions it is trained and judged on.
    """

    jobs: ScoringJobs
    inputs: ModelInputs
    schema_key: str
    training: Training

    @property
    def model(self) -> str:
        """The model's name."""
        return self.inputs.model

    def plan_arguments(self, execution_id: str, last_partition: str) -> PlanRetrainingArguments:
        """Return the arguments of an execution's planning step."""
        return PlanRetrainingArguments(
            **self._step(execution_id),
            window=self.training.window,
            held_out=self.training.held_out,
            gap=self.training.gap,
            registry_table=self.jobs.environment["MLPIPE_REGISTRY_TABLE"],
            schedule="ended:2013-01-01:2014-01-01",
            last_partition=last_partition,
        )

    def train_arguments(self, execution_id: str) -> RetrainingStepArguments:
        """Return the arguments of an execution's training step."""
        return RetrainingStepArguments(**self._step(execution_id))

    def judge_arguments(self, execution_id: str, candidate: str) -> JudgeArguments:
        """Return the arguments of an execution's judging step."""
        return JudgeArguments(**self._step(execution_id), candidate=candidate)

    def planned(self, execution_id: str, last_partition: str) -> RetrainingPlan:
        """Run the planning step, and return the plan."""
        arguments = self.plan_arguments(execution_id, last_partition)
        return RetrainingPlan.parse(self._output("plan_retraining.py", arguments, "plan"))

    def trained(self, execution_id: str) -> str:
        """Run the training step, and return the candidate's address."""
        name = self.jobs.start_training(self.train_arguments(execution_id))
        return self.jobs.completed(name)["ModelArtifacts"]["S3ModelArtifacts"]

    def judged(self, execution_id: str, candidate: str) -> Verdict:
        """Run the judging step, and return the verdict."""
        arguments = self.judge_arguments(execution_id, candidate)
        return Verdict.parse(self._output("judge_models.py", arguments, "verdict"))

    def retrained(self, execution_id: str, last_partition: str) -> Retrained:
        """Run all three steps, and return their results."""
        plan = self.planned(execution_id, last_partition)
        return Retrained(plan, self.judged(execution_id, self.trained(execution_id)))

    def crown(self, verdict: Verdict) -> None:
        """Register a verdict's candidate as version 1, and make it the champion."""
        store = ObjectStore(self.jobs.client("s3"), self.jobs.bucket)
        pinned = found_model(store, self.model, verdict.candidate_key)
        version = version_record(self.model, pinned, version=1, state=VersionState.APPROVED)
        registry = RegistryTable(self.jobs.client("dynamodb"), self.jobs.environment["MLPIPE_REGISTRY_TABLE"])
        promote_version(registry, replace(version, trained_until=verdict.trained_until))

    def _step(self, execution_id: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "bucket": self.jobs.bucket,
            "execution_id": execution_id,
            "code_version": CODE_VERSION,
            "inputs_key": self.inputs.to_document()[0],
            "schema_key": self.schema_key,
        }

    def _output(self, script: str, arguments: RetrainingStepArguments, output: str) -> bytes:
        """Run a processing script, and return the file that it uploads as an output."""
        prefix = retraining_prefix(self.model, arguments.execution_id)
        path = f"sagemaker_scripts/{script}"
        name = self.jobs.start_processing(path, arguments, outputs={output: prefix[:-1]})
        described = json.loads(self.jobs.completed(name)["ExitMessage"])
        assert described["execution_id"] == arguments.execution_id
        return self.jobs.content(f"{prefix}{output}.json")


def retraining_jobs(jobs: ScoringJobs) -> RetrainingJobs:
    """Return the retraining jobs of a new model that uses the example model's functions."""
    model = f"delay_{uuid.uuid4().hex[:8]}"
    judging = Judging(slices=("origin",), is_approved_by_rule=True)
    inputs = replace(INPUTS[EXAMPLE_MODEL], model=model, judging=judging)
    key, content = inputs.to_document()
    jobs.client("s3").put_object(Bucket=jobs.bucket, Key=key, Body=content)
    training = Training(window=5, held_out=3, gap=1)
    return RetrainingJobs(jobs, inputs, jobs.schema_key(EXAMPLE_MODEL), training)
