"""Start the three SageMaker jobs on the local stack as Dagster would, by plain boto3."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.packaging import sagemaker_files
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import (
    AccuracyArguments,
    FeatureArguments,
    ScoreArguments,
    TrainArguments,
)
from prediction_contract.jobs.metrics import metric_definitions
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.s3_layout import candidates_prefix
from prediction_contract.registry.table import RegistryTable
from sagemaker_scripts.learning.model_artifact import found_model
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import INPUTS, SCHEMAS
from tests.sagemaker.registered_versions import promote_version, version_record
from tests.stack_runs import base_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODE_FOLDER = "/opt/ml/processing/input/code"
CODE_VERSION = "abc123"
# Where the raw data ends.
LAST_PREPARED = "2013-02-28"
_JOB_SECONDS = 180


@dataclass
class ScoringJobs:
    """The jobs of one stack, with their code and schemas on its S3.

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

    def upload(self) -> None:
        """Put code and schemas on S3: plain files for processing, one archive for training."""
        s3 = self.client("s3")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in sagemaker_files(EXAMPLE).items():
                s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/files/{name}", Body=content)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/sourcedir.tar.gz", Body=buffer.getvalue())
        for model, schema in SCHEMAS.items():
            document = json.dumps(schema.to_document()).encode()
            s3.put_object(Bucket=self.bucket, Key=self.schema_key(model), Body=document)
        for key, content in (inputs.to_document() for inputs in INPUTS.values()):
            s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def upload_script(self, name: str, text: str) -> None:
        """Put one more script beside the packages."""
        self.client("s3").put_object(
            Bucket=self.bucket, Key=f"{self.prefix}/files/{name}", Body=text.encode()
        )

    def schema_key(self, model: str) -> str:
        """Return the key of a model's schema."""
        return f"{self.prefix}/{model}.schema.json"

    def inputs_key(self, model: str) -> str:
        """Return the key of the document of a model's inputs."""
        return INPUTS[model].to_document()[0]

    def start_processing(
        self,
        script: str,
        arguments: FeatureArguments | ScoreArguments | RetrainingStepArguments | AccuracyArguments,
        *,
        instances: int = 1,
        outputs: Mapping[str, str] | None = None,
    ) -> str:
        """Start a script by its path below the code on so many hosts, and return the job's name.

        Args:
            script: The path.
            arguments: The script's.
            instances: How many hosts.
            outputs: The prefix that each output is uploaded to.
        """
        name = f"scoring-{uuid.uuid4().hex}"
        code = {
            "S3Uri": f"s3://{self.bucket}/{self.prefix}/files/",
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

    def start_training(self, arguments: TrainArguments | RetrainingStepArguments) -> str:
        """Start a training job in script mode, and return its name."""
        name = f"train-{uuid.uuid4().hex}"
        is_planned = isinstance(arguments, RetrainingStepArguments)
        prefix = candidates_prefix(arguments.model) if is_planned else f"models/{arguments.model}/"
        metrics = () if is_planned else INPUTS[arguments.model].metrics
        words = arguments.container_arguments()
        parameters = {key.removeprefix("--"): text for key, text in zip(words[::2], words[1::2], strict=True)}
        self.client("sagemaker").create_training_job(
            TrainingJobName=name,
            RoleArn=self.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            AlgorithmSpecification={
                "TrainingImage": base_image(self.environment),
                "TrainingInputMode": "File",
                "MetricDefinitions": metric_definitions(metrics),
            },
            HyperParameters={
                "sagemaker_program": "sagemaker_scripts/train_model.py",
                "sagemaker_submit_directory": f"s3://{self.bucket}/{self.prefix}/sourcedir.tar.gz",
                **parameters,
            },
            OutputDataConfig={"S3OutputPath": f"s3://{self.bucket}/{prefix}"},
            ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
            StoppingCondition={"MaxRuntimeInSeconds": 600},
        )
        return name

    def promote(self, model: str, archive_key: str) -> None:
        """Register an archive as the model's first version, and make it the champion."""
        pinned = found_model(ObjectStore(self.client("s3"), self.bucket), model, archive_key)
        registry = RegistryTable(self.client("dynamodb"), self.environment["MLPIPE_REGISTRY_TABLE"])
        promote_version(registry, version_record(model, pinned, version=1, state="approved"))

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
        """Wait for a job's end, and describe it."""
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
        """Run a score job that must complete, and return what it says of itself."""
        script = "sagemaker_scripts/score_batch.py"
        name = self.start_processing(script, arguments, instances=instances)
        return json.loads(self.completed(name)["ExitMessage"])

    def content(self, key: str) -> bytes:
        """Return an object of the data bucket."""
        return self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def manifest(self, key: str) -> Manifest:
        """Return a manifest after all checks of the contract."""
        manifest = parse_manifest(self.content(key))
        validate(manifest, bucket=self.bucket, key=key)
        return manifest


def stack_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Return how deltalake reaches a stack's S3 from the test's own process."""
    return {
        "AWS_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
        "AWS_REGION": environment["AWS_REGION"],
        "AWS_ALLOW_HTTP": "true",
    }
