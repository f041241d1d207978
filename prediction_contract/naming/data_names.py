"""The names of buckets, code archives, tables, jobs and Snowflake objects."""

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

# SageMaker chooses these names. The log groups are shared by all jobs of the account.
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
        """The data bucket in the home region; its name is globally unique."""
        return self._name(f"data-{self.account_id}-{self.home}")

    @property
    def data_bucket_arn(self) -> str:
        """The bucket's ARN, which contains neither region nor account."""
        return f"arn:{self.partition}:s3:::{self.data_bucket}"

    @property
    def data_key_alias(self) -> str:
        """The alias of the KMS key that the bucket is encrypted with."""
        return f"alias/{self._name('data')}"

    @property
    def keys_arn_pattern(self) -> str:
        """The ARN pattern of every KMS key in this region; KMS chooses the keys' ids."""
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
        """Return the key of a deployable's code archive, which contains the digest of its files.

        Args:
            deployable: The package in the archive, for example `glue_scripts`.
            digest: The SHA-256 of its files, 64 lower-case hexadecimal digits.
        """
        validated(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{validated(_DIGEST, digest, 'digest')}.zip"

    def code_tree_prefix(self, deployable: str, digest: str) -> str:
        """Return the key prefix of a deployable's code as single files, ending in a slash.

        Args:
            deployable: The package below the prefix, for example `sagemaker_scripts`.
            digest: The SHA-256 of the same files.
        """
        validated(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{validated(_DIGEST, digest, 'digest')}/"

    def training_code_key(self, digest: str) -> str:
        """Return the key of the `tar.gz` that a training job unpacks; it is outside of `code_tree_prefix`."""
        return f"{self.code_prefix}sagemaker_scripts/{validated(_DIGEST, digest, 'digest')}.tar.gz"

    def glue_wheels_key(self, digest: str) -> str:
        """Return the key of the zip of wheels that Glue installs; Glue requires the ending of its name.

        Args:
            digest: The SHA-256 of the files that it is built from.
        """
        return f"{self.code_prefix}glue_wheels/{validated(_DIGEST, digest, 'digest')}.gluewheels.zip"

    @property
    def load_script_key(self) -> str:
        """The key of the script that the Glue job starts; its package is in the code archive."""
        return f"{self.code_prefix}glue_scripts/load_predictions.py"

    @property
    def registry_table(self) -> str:
        """The table of all batches, publications and live pointers."""
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
        """The beginning of the name of every model's online table; the model's name follows."""
        return self._name("predictions-")

    @property
    def online_tables_arn_pattern(self) -> str:
        """The ARN pattern of every model's online table, so that policies need no change for a new model."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*")

    @property
    def online_replicas_arn_pattern(self) -> str:
        """The ARN pattern of every model's online table in all serving regions."""
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
        """The log groups for the script's output, and for messages of Glue and Spark."""
        return f"{self.load_log_prefix}/output", f"{self.load_log_prefix}/error"

    def job_tags(self, model: str) -> list[dict[str, str]]:
        """Return the tags of a SageMaker job; the stage's budget uses the first."""
        return [{"Key": STAGE_TAG, "Value": self.stage}, {"Key": MODEL_TAG, "Value": model}]

    def model_package_group(self, model: str) -> str:
        """Return the SageMaker model package group of a model, with hyphens for underscores."""
        return self._name(model_name_stem(model).replace("_", "-"))

    def scoring_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline that scores a model without Dagster."""
        return self.model_package_group(model)

    def scoring_pipeline_arn(self, model: str) -> str:
        """Return the ARN of that pipeline."""
        return self._arn("sagemaker", f"pipeline/{self.scoring_pipeline(model)}")

    def retraining_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline that retrains a model.

        It begins with `0retrain-`, which no scoring pipeline's name does.
        """
        return f"{self.retraining_pipelines_prefix}{model_name_stem(model).replace('_', '-')}"

    def retraining_pipeline_arn(self, model: str) -> str:
        """Return the ARN of that pipeline."""
        return self._arn("sagemaker", f"pipeline/{self.retraining_pipeline(model)}")

    @property
    def retraining_pipelines_prefix(self) -> str:
        """The beginning of the names of all retraining pipelines and of their schedules."""
        return self._name("0retrain-")

    @property
    def retraining_pipelines_arn_pattern(self) -> str:
        """The ARN pattern of all retraining pipelines."""
        return self._arn("sagemaker", f"pipeline/{self.retraining_pipelines_prefix}*")

    def model_package_group_arn(self, model: str) -> str:
        """Return the ARN of a model's package group."""
        return self._arn("sagemaker", f"model-package-group/{self.model_package_group(model)}")

    @property
    def model_packages_arn_patterns(self) -> tuple[str, str]:
        """The ARN patterns of the stage's package groups, and of the packages in them."""
        return (
            self._arn("sagemaker", f"model-package-group/{self._name('*')}"),
            self._arn("sagemaker", f"model-package/{self._name('*')}"),
        )

    @property
    def retraining_jobs_arn_patterns(self) -> tuple[str, str]:
        """The ARN patterns of the processing and training jobs that pipeline steps start."""
        return self.scoring_jobs_arn_pattern, self._arn("sagemaker", "training-job/pipelines-*")

    @property
    def scoring_jobs_arn_pattern(self) -> str:
        """The ARN pattern of the processing jobs that pipeline steps start; SageMaker chooses their names."""
        return self._arn("sagemaker", "processing-job/pipelines-*")

    @property
    def scoring_pipelines_arn_pattern(self) -> str:
        """The ARN pattern of all scoring pipelines."""
        return self._arn("sagemaker", f"pipeline/{PREFIX}-{self.stage}-*")

    @property
    def job_image_repository(self) -> str:
        """The ECR repository of the image for SageMaker jobs."""
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
        """The external stage over the data bucket's predictions, in the schema."""
        return SNOWFLAKE_STAGE

    @property
    def snowflake_role(self) -> str:
        """The Snowflake role that loads and publishes."""
        return f"{self.snowflake_database}_LOADER"

    @property
    def snowflake_integration(self) -> str:
        """The account-wide storage integration through which Snowflake reads the bucket."""
        return f"{self.snowflake_database}_S3"

    @property
    def snowflake_secret(self) -> str:
        """The secret with the Snowflake connection as a JSON document."""
        return self._name("snowflake")
