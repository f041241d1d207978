"""Write the retraining pipeline's definition with SageMaker's SDK: `python -m infra.retraining_pipeline`.

It runs in the environment that `python -m infra.environments sagemaker` creates. The definition is kept in
the repository and is the same for all models, so nothing else needs the SDK.
"""

# The type checker's environment does not have the SDK.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from infra.definitions.job_requests import RETRY
from infra.definitions.retraining_steps import (
    FAIL_STEP,
    JUDGE_STEP,
    PARAMETERS,
    PLAN_FILE,
    PLAN_STEP,
    REFUSED_STEP,
    REGISTER_STEP,
    TRAIN_STEP,
    VERDICT_FILE,
    References,
    judge_request,
    package_request,
    plan_request,
    token,
    train_request,
)
from prediction_contract.jobs.retraining_arguments import CAUSES
from prediction_contract.naming.s3_layout import VERDICT_NAME

DEFINITION = Path(__file__).with_name("definitions") / "retraining_definition.json"
# The SDK creates clients at import, and reports its use to AWS unless that is disabled.
_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def definition() -> str:
    """Return the definition as SageMaker's SDK makes it, formatted for people."""
    os.environ |= _ENVIRONMENT
    # Imported here: it takes half a minute, and only this function needs it.
    from sagemaker.core.workflow.conditions import ConditionEquals  # noqa: PLC0415
    from sagemaker.core.workflow.execution_variables import ExecutionVariables  # noqa: PLC0415
    from sagemaker.core.workflow.functions import Join, JsonGet  # noqa: PLC0415
    from sagemaker.core.workflow.parameters import ParameterString  # noqa: PLC0415
    from sagemaker.core.workflow.properties import Properties, PropertyFile  # noqa: PLC0415
    from sagemaker.mlops.workflow.condition_step import ConditionStep  # noqa: PLC0415
    from sagemaker.mlops.workflow.fail_step import FailStep  # noqa: PLC0415
    from sagemaker.mlops.workflow.pipeline import Pipeline, PipelineGraph  # noqa: PLC0415
    from sagemaker.mlops.workflow.retry import (  # noqa: PLC0415
        SageMakerJobExceptionTypeEnum,
        SageMakerJobStepRetryPolicy,
    )
    from sagemaker.mlops.workflow.steps import ConfigurableRetryStep, StepTypeEnum  # noqa: PLC0415

    class RequestStep(ConfigurableRetryStep):
        """A step with a plain request as its arguments, which the SDK's job classes cannot express."""

        def __init__(
            self,
            name: str,
            kind: StepTypeEnum,
            request: dict[str, Any],
            *,
            described_by: str | None = None,
            files: tuple[PropertyFile, ...] = (),
        ) -> None:
            retries = [] if described_by is None else [_retry_policy()]
            super().__init__(name, kind, retry_policies=retries)
            self._request = request
            self.property_files = list(files)
            self._properties = Properties(step_name=name, step=self, shape_name=described_by)

        @property
        def arguments(self) -> dict[str, Any]:
            return self._request

        @property
        def properties(self) -> Properties:
            return self._properties

        def to_request(self) -> dict[str, Any]:
            request = super().to_request()
            if self.property_files:
                request["PropertyFiles"] = [each.expr for each in self.property_files]
            return request

    def _retry_policy() -> SageMakerJobStepRetryPolicy:
        return SageMakerJobStepRetryPolicy(
            # This enumeration of the SDK returns its first member when it is called with any value.
            exception_types=[
                each for each in SageMakerJobExceptionTypeEnum if each.value in RETRY["ExceptionType"]
            ],
            interval_seconds=RETRY["IntervalSeconds"],
            backoff_rate=RETRY["BackoffRate"],
            max_attempts=RETRY["MaxAttempts"],
        )

    def is_set(step: str, file: PropertyFile, member: str, value: int) -> ConditionEquals:
        return ConditionEquals(
            left=JsonGet(step_name=step, property_file=file, json_path=member), right=value
        )

    def verdict(member: str) -> JsonGet:
        return JsonGet(step_name=JUDGE_STEP, property_file=verdict_file, json_path=member)

    parameters = {
        name: ParameterString(name, default, enum_values=list(CAUSES) if name == "Cause" else None)
        for name, default in PARAMETERS.values()
    }
    references = References(
        execution_id=ExecutionVariables.PIPELINE_EXECUTION_ID,
        execution_arn=ExecutionVariables.PIPELINE_EXECUTION_ARN,
        parameters=parameters,
        joined=lambda *values: Join(on="", values=list(values)),
    )
    plan_file, verdict_file = PropertyFile(*PLAN_FILE), PropertyFile(*VERDICT_FILE)
    plan = RequestStep(
        PLAN_STEP,
        StepTypeEnum.PROCESSING,
        plan_request(references),
        described_by="DescribeProcessingJobResponse",
        files=(plan_file,),
    )
    train = RequestStep(
        TRAIN_STEP,
        StepTypeEnum.TRAINING,
        train_request(references),
        described_by="DescribeTrainingJobResponse",
    )
    candidate = train.properties.ModelArtifacts.S3ModelArtifacts
    judge = RequestStep(
        JUDGE_STEP,
        StepTypeEnum.PROCESSING,
        judge_request(references, candidate=candidate),
        described_by="DescribeProcessingJobResponse",
        files=(verdict_file,),
    )
    register, refused = (
        RequestStep(
            name,
            StepTypeEnum.REGISTER_MODEL,
            package_request(references, candidate=candidate, verdict=verdict, refused=name == REFUSED_STEP),
        )
        for name in (REGISTER_STEP, REFUSED_STEP)
    )
    is_better = ConditionStep(
        "IsBetter",
        conditions=[
            is_set(JUDGE_STEP, verdict_file, "better", 1),
            is_set(JUDGE_STEP, verdict_file, "worse_slices", 0),
        ],
        if_steps=[register],
        else_steps=[refused],
    )
    is_new = ConditionStep(
        "IsNew", conditions=[is_set(JUDGE_STEP, verdict_file, "is_new", 1)], if_steps=[is_better]
    )
    message = references.joined("A person must look at ", *references.address(VERDICT_NAME).values)
    needs_person = ConditionStep(
        "NeedsPerson",
        conditions=[is_set(JUDGE_STEP, verdict_file, "needs_person", 1)],
        if_steps=[FailStep(FAIL_STEP, error_message=message)],
        else_steps=[is_new],
    )
    has_work = ConditionStep(
        "HasWork",
        conditions=[is_set(PLAN_STEP, plan_file, "proceed", 1)],
        if_steps=[train, judge, needs_person],
    )
    pipeline = Pipeline(
        name=token("pipeline"),
        parameters=list(parameters.values()),
        # With a configuration, the definitions of some regions would have an experiment.
        pipeline_experiment_config=None,
        steps=[plan, has_work],
    )
    # Finds unknown property files and cycles, which `definition()` does not check.
    PipelineGraph.from_pipeline(pipeline)
    return json.dumps(json.loads(pipeline.definition()), indent=1) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the definition, or check that the file equals what the SDK makes."""
    parser = argparse.ArgumentParser(prog="python -m infra.retraining_pipeline", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the file is out of date")
    options = parser.parse_args(arguments)
    made = definition()
    if not options.check:
        DEFINITION.write_text(made, encoding="utf-8")
    elif made != DEFINITION.read_text(encoding="utf-8"):
        sys.stderr.write(f"{DEFINITION} is out of date. Run `python -m infra.retraining_pipeline`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
