"""A retraining pipeline of the deployed shape whose only job claims, plans and judges but never trains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions
from mlpipe_dagster.versions.retraining_runs import Retraining, RetrainingRequest
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import REJECTED
from tests.dagster.job_steps import QUICK, ensure_roles, upload
from tests.dagster.versions.registered_packages import RegisteredPackages
from tests.infra.job_executor.pipeline_stack import compare, condition_step, definition, fail_step, get, join
from tests.stack_runs import base_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlpipe_dagster.resources.platform import Platform

CODE = "/opt/ml/processing/input/code"
OUTPUT = "/opt/ml/processing/output/verdict"
_JOB = """
    import boto3, hashlib, json, os, pathlib, sys, time
    from botocore.exceptions import ClientError

    bucket, model, execution, last, attempt = sys.argv[1:]
    s3, prefix = boto3.client("s3"), f"models/{model}/retraining"

    def read(key):
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def put(key, document):
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())

    told = read(f"models/{model}/told.json")
    deadline = time.monotonic() + 60
    while told["waits"] and not s3.list_objects_v2(Bucket=bucket, Prefix="go-on").get("Contents"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    claim = f"{prefix}/claims/{last}-{attempt}.json"
    try:
        s3.put_object(Bucket=bucket, Key=claim, Body=json.dumps(execution).encode(), IfNoneMatch="*")
    except ClientError as error:
        print("claimed before", error)
    first = read(claim)
    print("the job is at work")
    assert int(attempt) > told["failing_attempts"] or first != execution, "the job has failed as told"
    plan = told["plan"] | {"execution_id": execution, "attempt": int(attempt), "claimed_by": first}
    plan["proceed"] = int(first == execution)
    put(f"{prefix}/{execution}/plan.json", plan)
    digest = hashlib.sha256(execution.encode()).hexdigest()
    verdict = told["verdict"] | {
        "execution_id": execution,
        "candidate_digest": digest[:16],
        "candidate_sha256": digest,
        "candidate_key": f"models/{model}/candidates/{execution}/output/model.tar.gz",
    }
    if plan["proceed"]:
        put(f"{prefix}/{execution}/verdict.json", verdict)
        s3.put_object(Bucket=bucket, Key=verdict["candidate_key"], Body=b"an archive")
    file = verdict | {"proceed": plan["proceed"], "key": f"{prefix}/{execution}/verdict.json"}
    file["address"] = f"s3://{bucket}/{verdict['candidate_key']}"
    root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
    (root / "processing/output/verdict/verdict.json").write_text(json.dumps(file))
"""


def _said(path: str) -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": get("Steps.PlanRetraining.PropertyFiles.Verdict"), "Path": path}}


@dataclass
class SmallRetraining:
    """The retraining pipeline of one model with instructions for its job.

    Attributes:
        registered: The model's packages.
        is_bare: Whether its executions do nothing and end at once.
    """

    registered: RegisteredPackages
    is_bare: bool = False

    def __post_init__(self) -> None:
        """Create the pipeline; its first execution finds a better version."""
        ensure_roles(self.platform)
        deployment = self.platform.settings.deployment
        self.pipeline = deployment.retraining_pipeline(self.registered.model)
        self.sagemaker = self.platform.client("sagemaker")
        parameters = [
            {"Name": "LastPartition", "Type": "String", "DefaultValue": "newest"},
            {"Name": "Attempt", "Type": "String", "DefaultValue": "1"},
            {"Name": "Cause", "Type": "String", "DefaultValue": "request"},
            {"Name": "RequestedBy", "Type": "String", "DefaultValue": "none"},
        ]
        self.sagemaker.create_pipeline(
            PipelineName=self.pipeline,
            PipelineDefinition=json.dumps(definition(self._steps(), parameters)),
            RoleArn=self.platform.settings.sagemaker_role_arn,
            ClientRequestToken=f"{self.pipeline:0>32}",
        )
        self.tell()

    @property
    def platform(self) -> Platform:
        """Return the platform of the packages."""
        return self.registered.platform

    @property
    def client(self) -> PipelineExecutions:
        """Return a client for pipeline executions."""
        return PipelineExecutions(
            client=self.sagemaker, logs_client=self.platform.client("logs"), polling=QUICK
        )

    @property
    def retraining(self) -> Retraining:
        """Return the model's retraining."""
        return Retraining(
            executions=self.client,
            packages=self.registered.packages,
            registry=self.platform.registry,
            bucket=self.platform.bucket,
            deployment=self.platform.settings.deployment,
        )

    def wanted(self, **changes: Any) -> RetrainingRequest:
        """Return a request to retrain up to one partition."""
        said: dict[str, Any] = {
            "model": self.registered.model,
            "cause": "request",
            "requested_by": "ann",
            "code_version": "0123456789abcdef",
            "last_partition": "2013-02-15",
        }
        return RetrainingRequest(**{**said, **changes})

    def tell(self, *, waits: bool = False, failing_attempts: int = 0, **judged: Any) -> None:
        """Set what the job does and how it judges the candidate."""
        plan = RetrainingPlan(
            model=self.registered.model,
            execution_id="",
            attempt=1,
            claimed_by="",
            cause="request",
            requested_by="ann",
            code_version="0123456789abcdef",
            inputs_key="models/x/inputs.json",
            schema_key="models/x/schema.json",
            first_partition="2013-01-01",
            last_partition="2013-01-31",
            first_held_out="2013-02-02",
            last_held_out="2013-02-15",
            features=(),
        )
        told = {
            "waits": waits,
            "failing_attempts": failing_attempts,
            "plan": json.loads(plan.to_bytes()),
            "verdict": self.registered.verdict("", **judged).to_document(),
        }
        self.platform.bucket.put(f"models/{self.registered.model}/told.json", json.dumps(told).encode())

    def executions(self) -> Mapping[str, str]:
        """Return the status of each execution by its display name."""
        answer = self.sagemaker.list_pipeline_executions(PipelineName=self.pipeline)
        return {
            found["PipelineExecutionDisplayName"]: found["PipelineExecutionStatus"]
            for found in answer["PipelineExecutionSummaries"]
        }

    def _steps(self) -> list[Any]:
        if self.is_bare:
            return [condition_step("HasWork", [compare("Equals", 1, 1)], [], [])]
        person = fail_step(join("A person must look: ", _said("reason")))
        judged = condition_step(
            "NeedsPersonToLook",
            [compare("Equals", _said("needs_person"), 1)],
            [person],
            [
                condition_step(
                    "IsNew",
                    [compare("Equals", _said("is_new"), 1)],
                    [
                        condition_step(
                            "IsBetter",
                            [compare("Equals", _said("better"), 1)],
                            [self._register("RegisterModel", _said("approval"))],
                            [self._register("RegisterRefused", REJECTED)],
                        )
                    ],
                    [],
                )
            ],
        )
        has_work = condition_step("HasWork", [compare("Equals", _said("proceed"), 1)], [judged], [])
        return [self._plan(), has_work]

    def _plan(self) -> dict[str, Any]:
        bucket, execution = self.platform.settings.data_bucket, get("Execution.PipelineExecutionId")
        source = {
            "S3Uri": upload(self.platform, _JOB),
            "LocalPath": CODE,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        }
        words = [
            bucket,
            self.registered.model,
            execution,
            get("Parameters.LastPartition"),
            get("Parameters.Attempt"),
        ]
        uri = join(f"s3://{bucket}/models/{self.registered.model}/files", execution, on="/")
        output = {"S3Uri": uri, "LocalPath": OUTPUT, "S3UploadMode": "EndOfJob"}
        cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        return {
            "Name": "PlanRetraining",
            "Type": "Processing",
            "Arguments": {
                "RoleArn": self.platform.settings.sagemaker_role_arn,
                "AppSpecification": {
                    "ImageUri": base_image(self.environment),
                    "ContainerEntrypoint": ["python3", f"{CODE}/script.py"],
                    "ContainerArguments": words,
                },
                "ProcessingInputs": [{"InputName": "code", "S3Input": source}],
                "ProcessingOutputConfig": {"Outputs": [{"OutputName": "verdict", "S3Output": output}]},
                "ProcessingResources": {"ClusterConfig": cluster},
            },
            "PropertyFiles": [
                {"PropertyFileName": "Verdict", "OutputName": "verdict", "FilePath": "verdict.json"}
            ],
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that name the jobs' image."""
        return {"MLPIPE_SAGEMAKER_IMAGE_REPOSITORY": self.platform.settings.sagemaker_image_repository}

    def _register(self, name: str, approval: Any) -> dict[str, Any]:
        container = {"Image": base_image(self.environment), "ModelDataUrl": _said("address")}
        said = {
            "digest": _said("candidate_digest"),
            "sha256": _said("candidate_sha256"),
            "execution": get("Execution.PipelineExecutionArn"),
            "verdict": _said("key"),
            "judged_against": join(_said("champion_version")),
            "trained_until": _said("trained_until"),
            "code_version": "0123456789abcdef",
        }
        return {
            "Name": name,
            "Type": "RegisterModel",
            "Arguments": {
                "ModelPackageGroupName": self.registered.group,
                "ModelApprovalStatus": approval,
                "InferenceSpecification": {"Containers": [container]},
                "CustomerMetadataProperties": said,
                "SkipModelValidation": "All",
            },
        }
