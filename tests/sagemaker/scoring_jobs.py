"""Start SageMaker jobs on the local stack with boto3, as Dagster and pipelines do."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.definitions.job_requests import JobSetting, training_request
from infra.packaging import sagemaker_files
from prediction_contract.jobs.job_arguments import (
    AccuracyArguments,
    FeatureArguments,
    ScoreArguments,
)
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.s3_layout import candidates_prefix
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import INPUTS, SCHEMAS
from tests.stack_runs import base_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODE_FOLDER = "/opt/ml/processing/input/code"
CODE_VERSION = "abc123"
FIRST_PREPARED = "2013-01-08"
# The raw data ends here; the flights of a day have all landed two days later.
LAST_PREPARED = "2013-02-28"
LAST_JUDGED = "2013-02-26"
_JOB_SECONDS = 180


@dataclass
class ScoringJobs:
    """The SageMaker jobs of one stack, with their code and schemas on its S3.

    Attributes:
        environment: The stack's variables.
        client: Makes a boto3 client of the stack for a service.
    """

    environment: Mapping[str, str]
    client: Callable[[str], Any]
    prefix: str = field(default_factory=lambda: f"code/{uuid.uuid4().hex}")

    @property
    def bucket(self) -> str:
        """The data bucket."""
        return self.environment["MLPIPE_DATA_BUCKET"]

    @property
    def code(self) -> str:
        """The S3 address of the code."""
        return f"s3://{self.bucket}/{self.prefix}/files/"

    def upload(self) -> None:
        """Upload code, schemas and inputs."""
        s3 = self.client("s3")
        for name, content in sagemaker_files(EXAMPLE).items():
            s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/files/{name}", Body=content)
        for model, schema in SCHEMAS.items():
            document = json.dumps(schema.to_document()).encode()
            s3.put_object(Bucket=self.bucket, Key=self.schema_key(model), Body=document)
        for key, content in (inputs.to_document() for inputs in INPUTS.values()):
            s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def upload_script(self, name: str, text: str) -> None:
        """Upload one more script beside the packages."""
        self.client("s3").put_object(
            Bucket=self.bucket, Key=f"{self.prefix}/files/{name}", Body=text.encode()
        )

    def schema_key(self, model: str) -> str:
        """Return the key of a model's schema."""
        return f"{self.prefix}/{model}.schema.json"

    def inputs_key(self, model: str) -> str:
        """Return the key of a model's inputs document."""
        return INPUTS[model].to_document()[0]

    def start_processing(
        self,
        script: str,
        arguments: FeatureArguments | ScoreArguments | RetrainingStepArguments | AccuracyArguments,
        *,
        instances: int = 1,
        outputs: Mapping[str, str] | None = None,
    ) -> str:
        """Start a script on the given number of hosts, and return the job's name.

        Args:
            script: The path of the script below the code.
            arguments: The arguments of the script.
            instances: The number of hosts.
            outputs: The prefix to which each output is uploaded.
        """
        name = f"scoring-{uuid.uuid4().hex}"
        code = {
            "S3Uri": self.code,
            "LocalPath": CODE_FOLDER,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        }
        self.client("sagemaker").create_processing_job(
            ProcessingJobName=name,
            RoleArn=self.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            AppSpecification={
                "ImageUri": base_image(self.environment),
                "ContainerEntrypoint": ["python3", f"{CODE_FOLDER}/{script}"],
                "ContainerArguments": arguments.container_arguments(),
            },
            ProcessingResources={
                "ClusterConfig": {
                    "InstanceCount": instances,
                    "InstanceType": "ml.m5.large",
                    "VolumeSizeInGB": 10,
                }
            },
            ProcessingInputs=[{"InputName": "code", "S3Input": code}],
            ProcessingOutputConfig={
                "Outputs": [
                    {
                        "OutputName": output,
                        "S3Output": {
                            "S3Uri": f"s3://{self.bucket}/{prefix}",
                            "LocalPath": f"/opt/ml/processing/output/{output}",
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                    for output, prefix in (outputs or {}).items()
                ]
            },
        )
        return name

    def start_features(self, model: str, first: str, last: str) -> str:
        """Start the features job of several days."""
        arguments = FeatureArguments(
            model=model,
            partition=first,
            last_partition=last,
            bucket=self.bucket,
            inputs_key=self.inputs_key(model),
            run_id="run-1",
            code_version=CODE_VERSION,
        )
        return self.start_processing("sagemaker_scripts/prepare_features.py", arguments)

    def start_training(self, arguments: RetrainingStepArguments) -> str:
        """Start a retraining's training job, and return its name."""
        name = f"train-{uuid.uuid4().hex}"
        setting = JobSetting(
            role_arn=self.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            image=base_image(self.environment),
            code=self.code,
            instance_type="ml.m5.large",
            volume_gb=10,
            max_runtime_seconds=600,
            environment={},
            tags=[],
        )
        request = training_request(
            setting,
            "train_model.py",
            arguments.container_arguments(),
            output=f"s3://{self.bucket}/{candidates_prefix(arguments.model)}",
        )
        self.client("sagemaker").create_training_job(TrainingJobName=name, **request)
        return name

    def score_arguments(self, model: str, partition: str, **changes: Any) -> ScoreArguments:
        """Return a score job's arguments."""
        given: dict[str, Any] = {
            "model": model,
            "partition": partition,
            "bucket": self.bucket,
            "lookback": 3,
            "schema_key": self.schema_key(model),
            "inputs_key": self.inputs_key(model),
            "registry_table": self.environment["MLPIPE_REGISTRY_TABLE"],
            "code_version": CODE_VERSION,
        }
        return ScoreArguments(**given | changes)

    def end(self, name: str) -> dict[str, Any]:
        """Wait until a job ends, and describe it."""
        kind = "training" if name.startswith("train-") else "processing"
        describe = getattr(self.client("sagemaker"), f"describe_{kind}_job")
        deadline = time.monotonic() + _JOB_SECONDS
        while time.monotonic() < deadline:
            job = describe(**{f"{kind.capitalize()}JobName": name})
            if job[f"{kind.capitalize()}JobStatus"] not in {"InProgress", "Stopping"}:
                return job
            time.sleep(0.25)
        raise AssertionError(f"{name} did not end within {_JOB_SECONDS} s")

    def completed(self, name: str) -> dict[str, Any]:
        """Wait for a job that must complete, and describe it."""
        job = self.end(name)
        status = job.get("ProcessingJobStatus") or job["TrainingJobStatus"]
        assert status == "Completed", job.get("FailureReason")
        return job

    def scored(self, arguments: ScoreArguments, *, instances: int = 1) -> dict[str, Any]:
        """Run a score job that must complete, and return its message."""
        script = "sagemaker_scripts/score_batch.py"
        name = self.start_processing(script, arguments, instances=instances)
        return json.loads(self.completed(name)["ExitMessage"])

    def content(self, key: str) -> bytes:
        """Return an object of the data bucket."""
        return self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def manifest(self, key: str) -> Manifest:
        """Return a manifest after validating it."""
        manifest = parse_manifest(self.content(key))
        validate(manifest, bucket=self.bucket, key=key)
        return manifest


def stack_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the options with which deltalake reaches the stack's S3 from the test process."""
    return {
        "AWS_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
        "AWS_REGION": environment["AWS_REGION"],
        "AWS_ALLOW_HTTP": "true",
    }
