"""Names of the jobs of Glue and SageMaker, and of what SageMaker keeps."""

from __future__ import annotations

from prediction_contract.naming.deployment_scope import PREFIX, STAGE_TAG, Place, model_name_stem

# SageMaker names them, and every job of the account writes there.
PROCESSING_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
TRAINING_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MODEL_TAG = f"{PREFIX}:model"


class JobNames(Place):
    """Names of the jobs of Glue and SageMaker, and of what SageMaker keeps."""

    __slots__ = ()

    @property
    def load_job(self) -> str:
        """The Glue job that loads the batches of every model."""
        return self._name("load-predictions")

    @property
    def load_job_arn(self) -> str:
        """The Glue job's ARN."""
        return self._arn("glue", f"job/{self.load_job}")

    @property
    def load_log_prefix(self) -> str:
        """The load job's argument `--custom-logGroup-prefix`, which gives it log groups of its own."""
        return f"/{PREFIX}/{self.stage}/load"

    @property
    def load_log_groups(self) -> tuple[str, str]:
        """Where Glue writes what the script prints, and what Glue and Spark say."""
        return f"{self.load_log_prefix}/output", f"{self.load_log_prefix}/error"

    def job_tags(self, model: str) -> list[dict[str, str]]:
        """Return the tags of a SageMaker job; the stage's budget finds its cost by the first."""
        return [{"Key": STAGE_TAG, "Value": self.stage}, {"Key": MODEL_TAG, "Value": model}]

    def model_package_group(self, model: str) -> str:
        """Return the SageMaker model package group of a model, with hyphens for underscores."""
        return self._name(model_name_stem(model).replace("_", "-"))

    def model_package_group_arn(self, model: str) -> str:
        """Return the ARN of a model's package group."""
        return self._arn("sagemaker", f"model-package-group/{self.model_package_group(model)}")

    def scoring_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline of a model that SageMaker itself scores."""
        return self.model_package_group(model)

    def scoring_pipeline_arn(self, model: str) -> str:
        """Return the ARN of that pipeline."""
        return self._arn("sagemaker", f"pipeline/{self.scoring_pipeline(model)}")

    @property
    def scoring_jobs_arn_pattern(self) -> str:
        """What matches the ARN of every job that a pipeline's step starts: SageMaker names them so."""
        return self._arn("sagemaker", "processing-job/pipelines-*")

    @property
    def scoring_pipelines_arn_pattern(self) -> str:
        """What matches the ARN of every such pipeline."""
        return self._arn("sagemaker", f"pipeline/{PREFIX}-{self.stage}-*")

    @property
    def job_image_repository(self) -> str:
        """The ECR repository of the image that SageMaker jobs run in."""
        return self._name("jobs")

    @property
    def job_image_repository_arn(self) -> str:
        """The repository's ARN in this region."""
        return self._arn("ecr", f"repository/{self.job_image_repository}")
