"""The names of what holds data: buckets, keys of code, tables, the jobs that work on them, and Snowflake."""

from __future__ import annotations

import re

from prediction_contract.naming.batch import ModelName
from prediction_contract.naming.deployment_scope import (
    PREFIX,
    STAGE_TAG,
    DeploymentScope,
    model_name_stem,
    validated,
)

# SageMaker names them, and every job of the account writes there.
PROCESSING_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
TRAINING_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MODEL_TAG = f"{PREFIX}:model"
SNOWFLAKE_SCHEMA = "PREDICTIONS"
SNOWFLAKE_STAGE = "PREDICTION_FILES"

_DEPLOYABLE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DataNames(DeploymentScope):
    """Names in S3, DynamoDB, Glue, SageMaker, ECR and Snowflake."""

    __slots__ = ()

    @property
    def data_bucket(self) -> str:
        """The one bucket, in the home region; its name is unique over all accounts and regions."""
        return self._name(f"data-{self.account_id}-{self.home}")

    @property
    def data_bucket_arn(self) -> str:
        """The bucket's ARN, which names neither region nor account."""
        return f"arn:{self.partition}:s3:::{self.data_bucket}"

    @property
    def data_key_alias(self) -> str:
        """The alias of the KMS key that the bucket is encrypted with."""
        return f"alias/{self._name('data')}"

    @property
    def keys_arn_pattern(self) -> str:
        """The pattern of the ARN of every KMS key in this region: a key's id is KMS's own."""
        return self._arn("kms", "key/*")

    @property
    def logs_bucket(self) -> str:
        """The bucket of logs about the data bucket and the home region's network."""
        return self._name(f"logs-{self.account_id}-{self.home}")

    @property
    def code_prefix(self) -> str:
        """The key prefix of all code that jobs run, ending in a slash."""
        return "code/"

    def code_archive_key(self, deployable: str, digest: str) -> str:
        """Return the key of a deployable's code archive, named by its content.

        Args:
            deployable: The package that it holds, for example `glue_scripts`.
            digest: SHA-256 of its files, 64 lower-case hexadecimal digits.
        """
        validated(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{validated(_DIGEST, digest, 'digest')}.zip"

    def code_tree_prefix(self, deployable: str, digest: str) -> str:
        """Return the key prefix of a deployable's code as single files, ending in a slash.

        Args:
            deployable: The package that it holds, for example `sagemaker_scripts`.
            digest: SHA-256 of the same files.
        """
        validated(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{validated(_DIGEST, digest, 'digest')}/"

    def training_code_key(self, digest: str) -> str:
        """Return the key of the `tar.gz` that a training job unpacks; not below the tree of the same code."""
        return f"{self.code_prefix}sagemaker_scripts/{validated(_DIGEST, digest, 'digest')}.tar.gz"

    def glue_wheels_key(self, digest: str) -> str:
        """Return the key of the zip of wheels that Glue installs; Glue knows it by the end of its name.

        Args:
            digest: SHA-256 of what it is made from.
        """
        return f"{self.code_prefix}glue_wheels/{validated(_DIGEST, digest, 'digest')}.gluewheels.zip"

    @property
    def load_script_key(self) -> str:
        """The key of the script that the Glue job starts; its package lies in the code archive."""
        return f"{self.code_prefix}glue_scripts/load_predictions.py"

    @property
    def registry_table(self) -> str:
        """The table that knows every batch, publication and live pointer."""
        return self._name("registry")

    @property
    def registry_table_arn(self) -> str:
        """The registry's ARN in this region."""
        return self._arn("dynamodb", f"table/{self.registry_table}")

    def online_table(self, model: str) -> str:
        """Return the name of a model's table of predictions."""
        return self._name(f"predictions-{ModelName(model)}")

    def online_table_arn(self, model: str) -> str:
        """Return the ARN of a model's table of predictions in this region."""
        return self._arn("dynamodb", f"table/{self.online_table(model)}")

    @property
    def online_tables_prefix(self) -> str:
        """What the name of every model's online table begins with; the model's name follows."""
        return self._name("predictions-")

    @property
    def online_tables_arn_pattern(self) -> str:
        """The pattern of the ARN of every model's online table, so that a new model changes no policy."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*")

    @property
    def online_replicas_arn_pattern(self) -> str:
        """The pattern of the ARN of every model's online table in any region that serves."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*", region="*")

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

    def scoring_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline of a model that SageMaker itself scores."""
        return self.model_package_group(model)

    def scoring_pipeline_arn(self, model: str) -> str:
        """Return the ARN of that pipeline."""
        return self._arn("sagemaker", f"pipeline/{self.scoring_pipeline(model)}")

    def retraining_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline that retrains a model.

        No model's name begins with a digit, so it is no other model's scoring pipeline.
        """
        return f"{self.retraining_pipelines_prefix}{model_name_stem(model).replace('_', '-')}"

    def retraining_pipeline_arn(self, model: str) -> str:
        """Return the ARN of that pipeline."""
        return self._arn("sagemaker", f"pipeline/{self.retraining_pipeline(model)}")

    @property
    def retraining_pipelines_prefix(self) -> str:
        """What the name of every pipeline that retrains begins with, and that of its schedule."""
        return self._name("0retrain-")

    @property
    def retraining_pipelines_arn_pattern(self) -> str:
        """The pattern of the ARN of every pipeline that retrains."""
        return self._arn("sagemaker", f"pipeline/{self.retraining_pipelines_prefix}*")

    def model_package_group_arn(self, model: str) -> str:
        """Return the ARN of a model's package group."""
        return self._arn("sagemaker", f"model-package-group/{self.model_package_group(model)}")

    @property
    def model_packages_arn_patterns(self) -> tuple[str, str]:
        """The pattern of the ARN of the stage's package groups, and of the packages in them."""
        return (
            self._arn("sagemaker", f"model-package-group/{self._name('*')}"),
            self._arn("sagemaker", f"model-package/{self._name('*')}"),
        )

    @property
    def retraining_jobs_arn_patterns(self) -> tuple[str, str]:
        """The pattern of the ARN of every processing and training job that a pipeline's step starts."""
        return self.scoring_jobs_arn_pattern, self._arn("sagemaker", "training-job/pipelines-*")

    @property
    def scoring_jobs_arn_pattern(self) -> str:
        """The pattern of the ARN of every job that a pipeline's step starts: SageMaker names them so."""
        return self._arn("sagemaker", "processing-job/pipelines-*")

    @property
    def scoring_pipelines_arn_pattern(self) -> str:
        """The pattern of the ARN of every such pipeline."""
        return self._arn("sagemaker", f"pipeline/{PREFIX}-{self.stage}-*")

    @property
    def job_image_repository(self) -> str:
        """The ECR repository of the image that SageMaker jobs run in."""
        return self._name("jobs")

    @property
    def job_image_address(self) -> str:
        """The repository's address in this region, without a tag."""
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"{self.account_id}.dkr.ecr.{self.region}.{suffix}/{self.job_image_repository}"

    @property
    def job_image_repository_arn(self) -> str:
        """The repository's ARN in this region."""
        return self._arn("ecr", f"repository/{self.job_image_repository}")

    @property
    def snowflake_database(self) -> str:
        """The Snowflake database of the stage."""
        return f"{PREFIX}_{self.stage}".upper()

    @property
    def snowflake_schema(self) -> str:
        """The schema that holds the predictions of all models."""
        return SNOWFLAKE_SCHEMA

    @property
    def snowflake_warehouse(self) -> str:
        """The virtual warehouse that loads run on."""
        return f"{self.snowflake_database}_LOAD"

    @property
    def snowflake_stage(self) -> str:
        """The external stage on the predictions of the data bucket, within the schema."""
        return SNOWFLAKE_STAGE

    @property
    def snowflake_role(self) -> str:
        """The Snowflake role that loads and publishes."""
        return f"{self.snowflake_database}_LOADER"

    @property
    def snowflake_integration(self) -> str:
        """The storage integration, which is account-wide, through which Snowflake reads the bucket."""
        return f"{self.snowflake_database}_S3"

    @property
    def snowflake_secret(self) -> str:
        """The secret that holds the Snowflake connection as one JSON document."""
        return self._name("snowflake")
