"""What the steps of the retraining pipeline ask SageMaker for, the same for all models.

Tokens such as `${model}` stand for what `infra/definitions/retraining_definition.py` fills in for a model.
What only an execution knows comes as references, which the SDK's DSL makes in `infra/retraining_pipeline.py`.
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
# The property files that conditions read: name, folder of the job's output, file.
PLAN_FILE = ("Plan", "plan", PLAN_NAME)
VERDICT_FILE = ("Verdict", "verdict", VERDICT_NAME)
# The pipeline's parameters by the argument that each becomes, with their defaults: whoever starts it by hand
# need not name any.
PARAMETERS = {
    "last_partition": ("LastPartition", NEWEST),
    "scheduled_at": ("ScheduledAt", NONE),
    "attempt": ("Attempt", "1"),
    "cause": ("Cause", "request"),
    "requested_by": ("RequestedBy", NONE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What only an execution knows, as the DSL writes it.

    Attributes:
        execution_id: The execution's id.
        execution_arn: Its ARN.
        parameters: The parameters by their names.
        joined: Makes one text of several.
    """

    execution_id: Any
    execution_arn: Any
    parameters: Mapping[str, Any]
    joined: Callable[..., Any]

    def arguments(self, kind: type[RetrainingStepArguments], **known: Any) -> list[Any]:
        """Return a job's command line: references where there are some, and tokens for the rest."""
        known |= {"execution_id": self.execution_id}
        known |= {name: self.parameters[parameter] for name, (parameter, _) in PARAMETERS.items()}
        return [
            word
            for declared in fields(kind)
            for word in (f"--{declared.name}", known.get(declared.name, token(declared.name)))
        ]

    def key(self, *names: str) -> Any:
        """Return the key of what the execution keeps, or of the folder that it lies in."""
        return self.joined(token("retraining_prefix"), self.execution_id, *(f"/{name}" for name in names))

    def address(self, *names: str) -> Any:
        """Return its S3 address."""
        return self.joined(
            f"s3://{token('bucket')}/{token('retraining_prefix')}",
            self.execution_id,
            *(f"/{name}" for name in names),
        )


def token(name: str) -> str:
    """Return what stands for a value until it is filled in."""
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
    """Return the request of the job that judges the candidate, given the address of its archive."""
    _, output, _ = VERDICT_FILE
    return processing_request(
        _setting("processing"),
        "judge_models.py",
        references.arguments(JudgeArguments, candidate=candidate),
        outputs=[(output, references.address())],
    )


def package_request(
    references: References, *, candidate: Any, told: Callable[[str], Any], refused: bool
) -> dict[str, Any]:
    """Return the request that registers the candidate.

    Args:
        references: What only the execution knows.
        candidate: The address of its archive.
        told: Gives a member of the verdict.
        refused: Whether the package is born rejected; otherwise the verdict says what it is born as.
    """
    return {
        "ModelPackageGroupName": token("group"),
        "InferenceSpecification": {"Containers": [{"Image": token("image"), "ModelDataUrl": candidate}]},
        "ModelApprovalStatus": REJECTED if refused else told("approval"),
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {
                    "ContentType": "application/json",
                    "S3Uri": references.address(VERDICT_NAME),
                }
            }
        },
        "MetadataProperties": {"GeneratedBy": references.execution_arn},
        # SageMaker takes 1 to 256 letters, digits, spaces and `_.:/=+-@` for each value.
        "CustomerMetadataProperties": {
            "digest": told("candidate_digest"),
            "sha256": told("candidate_sha256"),
            "execution": references.execution_id,
            "verdict": references.key(VERDICT_NAME),
            "judged_against": told("judged_against"),
            "trained_until": told("trained_until"),
            "code_version": token("code_version"),
        },
        # The image serves no requests, which a validation would send.
        "SkipModelValidation": "All",
    }
