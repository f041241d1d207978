"""The requests of the retraining pipeline's steps, the same for all models.

Tokens such as `${model}` are filled in for each model by `infra/definitions/retraining_definition.py`. Values
that only an execution has are references, made by the SDK's DSL in `infra/retraining_pipeline.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from infra.definitions.job_requests import JobSetting, processing_request, training_request
from prediction_contract.jobs.retraining_arguments import (
    NEWEST,
    NONE,
    JudgeArguments,
    PlanRetrainingArguments,
    RetrainingStepArguments,
)
from prediction_contract.jobs.verdict import REJECTED
from prediction_contract.naming.s3_layout import PLAN_NAME, VERDICT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAN_STEP, TRAIN_STEP, JUDGE_STEP = "PlanRetraining", "TrainModel", "JudgeModels"
REGISTER_STEP, REFUSED_STEP, FAIL_STEP = "RegisterModel", "RegisterRefused", "AskPerson"
# The property files that conditions read: name, output folder of the job, file.
PLAN_FILE = ("Plan", "plan", PLAN_NAME)
VERDICT_FILE = ("Verdict", "verdict", VERDICT_NAME)
# The pipeline's parameters with their defaults, by the argument that each becomes. A person who starts it can
# leave all of them out.
PARAMETERS = {
    "last_partition": ("LastPartition", NEWEST),
    "scheduled_at": ("ScheduledAt", NONE),
    "attempt": ("Attempt", "1"),
    "cause": ("Cause", "request"),
    "requested_by": ("RequestedBy", NONE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Values that only an execution has, as references of the DSL.

    Attributes:
        execution_id: The execution's id.
        execution_arn: The execution's ARN.
        parameters: The parameters by name.
        joined: Joins several texts into one.
    """

    execution_id: Any
    execution_arn: Any
    parameters: Mapping[str, Any]
    joined: Callable[..., Any]

    def arguments(self, kind: type[RetrainingStepArguments], **known: Any) -> list[Any]:
        """Return a job's command line, with references for parameters and tokens for other values."""
        known |= {"execution_id": self.execution_id}
        known |= {name: self.parameters[parameter] for name, (parameter, _) in PARAMETERS.items()}
        return [
            word
            for declared in fields(kind)
            for word in (f"--{declared.name}", known.get(declared.name, token(declared.name)))
        ]

    def key(self, *names: str) -> Any:
        """Return the S3 key of an object or folder below the execution's own prefix."""
        return self.joined(token("retraining_prefix"), self.execution_id, *(f"/{name}" for name in names))

    def address(self, *names: str) -> Any:
        """Return the S3 address of an object or folder below the execution's own prefix."""
        return self.joined(
            f"s3://{token('bucket')}/{token('retraining_prefix')}",
            self.execution_id,
            *(f"/{name}" for name in names),
        )


def token(name: str) -> str:
    """Return the token for a value that is filled in later."""
    return f"${{{name}}}"


def _setting(compute: str) -> JobSetting:
    return JobSetting(
        role_arn=token("role_arn"),
        image=token("image"),
        code=token("code"),
        instance_type=token(f"{compute}_instance_type"),
        volume_gb=token(f"{compute}_volume_gb"),
        max_runtime_seconds=token(f"{compute}_max_runtime_seconds"),
        environment=token("environment"),
        tags=token("tags"),
    )


def plan_request(references: References) -> dict[str, Any]:
    """Return the request of the job that plans and prepares features."""
    _, output, _ = PLAN_FILE
    return processing_request(
        _setting("processing"),
        "plan_retraining.py",
        references.arguments(PlanRetrainingArguments),
        outputs=[(output, references.address())],
    )


def train_request(references: References) -> dict[str, Any]:
    """Return the request of the job that trains the candidate."""
    return training_request(
        _setting("training"),
        "train_model.py",
        references.arguments(RetrainingStepArguments),
        output=token("candidates"),
    )


def judge_request(references: References, *, candidate: Any) -> dict[str, Any]:
    """Return the request of the job that judges a candidate, given the address of its archive."""
    _, output, _ = VERDICT_FILE
    return processing_request(
        _setting("processing"),
        "judge_models.py",
        references.arguments(JudgeArguments, candidate=candidate),
        outputs=[(output, references.address())],
    )


def package_request(
    references: References, *, candidate: Any, verdict: Callable[[str], Any], refused: bool
) -> dict[str, Any]:
    """Return the request that registers the candidate.

    Args:
        references: Values that only the execution has.
        candidate: The address of the candidate's archive.
        verdict: Returns a reference to the verdict's member of this name.
        refused: Whether the package is registered as rejected; otherwise its status comes from the verdict.
    """
    return {
        "ModelPackageGroupName": token("group"),
        "InferenceSpecification": {"Containers": [{"Image": token("image"), "ModelDataUrl": candidate}]},
        "ModelApprovalStatus": REJECTED if refused else verdict("approval"),
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {
                    "ContentType": "application/json",
                    "S3Uri": references.address(VERDICT_NAME),
                }
            }
        },
        "MetadataProperties": {"GeneratedBy": references.execution_arn},
        # SageMaker allows 1 to 256 letters, digits, spaces and `_.:/=+-@` for each value.
        "CustomerMetadataProperties": {
            "digest": verdict("candidate_digest"),
            "sha256": verdict("candidate_sha256"),
            "execution": references.execution_id,
            "verdict": references.key(VERDICT_NAME),
            "judged_against": verdict("judged_against"),
            "trained_until": verdict("trained_until"),
            "code_version": token("code_version"),
        },
        # A validation would send requests, and the image serves none.
        "SkipModelValidation": "All",
    }
