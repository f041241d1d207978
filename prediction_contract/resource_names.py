"""Every resource name of the platform, from one place: product code, local provisioning and CDK agree by it.

Names are functions of the stage, the account, the region and, where there is one per model, the model's
name. Regional services carry the same name in every region, so a client finds its own region's table or
queue without being told; what shares one name space over all regions (buckets, roles) carries the region.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re

from prediction_contract.batch import MODEL_PATTERN
from prediction_contract.errors import InvalidNameError

PREFIX = "mlpipe"
READ_SCOPE = "predictions:read"
SNOWFLAKE_SCHEMA = "PREDICTIONS"
SNOWFLAKE_STAGE = "LAKE"
GLUE_OUTPUT_LOG_GROUP = "/aws-glue/jobs/output"
GLUE_ERROR_LOG_GROUP = "/aws-glue/jobs/error"
PROCESSING_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
TRAINING_LOG_GROUP = "/aws/sagemaker/TrainingJobs"

_MODEL = re.compile(MODEL_PATTERN)
_STAGE = re.compile(r"[a-z][a-z0-9]{0,11}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,2}-[0-9]{1,2}")
_DEPLOYABLE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BUCKET_LIMIT = 63
# Cognito refuses these words anywhere in a domain.
_COGNITO_RESERVED = ("aws", "amazon", "cognito")


def _require(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidNameError(
            f"{what} {str(value)[:80]!r} does not have the form {pattern.pattern}",
            remedy=f"Give the {what} in that form",
        )
    return value


def require_model_name(model: str) -> str:
    """Return the model's name unchanged if it has the form `[a-z][a-z0-9_]{0,40}`.

    Raises:
        InvalidNameError: It does not.
    """
    return _require(_MODEL, model, "model name")


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """One stage of the platform as seen from one region; every name and ARN is a property or method of it.

    Args:
        stage: `local`, `dev`, `prod`, ...; `[a-z][a-z0-9]{0,11}`.
        account_id: The AWS account, twelve digits.
        region: The region that names and ARNs are meant in.
        home_region: The one region that writes; `None` says that it is `region` itself.

    Raises:
        InvalidNameError: A part does not have its form, or the bucket's name grows beyond 63 characters.
    """

    stage: str
    account_id: str
    region: str
    home_region: str | None = None

    def __post_init__(self) -> None:
        _require(_STAGE, self.stage, "stage")
        _require(_ACCOUNT, self.account_id, "account id")
        _require(_REGION, self.region, "region")
        if self.home_region is not None:
            _require(_REGION, self.home_region, "home region")
        if len(self.data_bucket) > _BUCKET_LIMIT:
            raise InvalidNameError(
                f"bucket name {self.data_bucket!r} is longer than S3's {_BUCKET_LIMIT} characters",
                remedy="Choose a shorter stage",
            )

    # Where the deployment is.

    @property
    def home(self) -> str:
        """The region that writes."""
        return self.home_region or self.region

    @property
    def is_home(self) -> bool:
        """Whether this region is the one that writes."""
        return self.home == self.region

    @property
    def partition(self) -> str:
        """The AWS partition of the region, the second field of every ARN."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def in_region(self, region: str) -> Deployment:
        """Return the same deployment as seen from another region; the home region stays."""
        return Deployment(self.stage, self.account_id, region, self.home)

    def _name(self, suffix: str) -> str:
        return f"{PREFIX}-{self.stage}-{suffix}"

    def _arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        place = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{place}:{self.account_id}:{resource}"

    # S3.

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
        """What matches the ARN of every KMS key in this region: a key's id is KMS's own."""
        return self._arn("kms", "key/*")

    @property
    def logs_bucket(self) -> str:
        """The bucket of logs about the data bucket and the home region's network."""
        return self._name(f"logs-{self.account_id}-{self.home}")

    @property
    def api_logs_bucket(self) -> str:
        """The bucket of the load balancer's access logs in this region."""
        return self._name(f"api-logs-{self.account_id}-{self.region}")

    def model_prefix(self, model: str) -> str:
        """Return the key prefix of a model's trained artifacts, ending in a slash."""
        return f"models/{require_model_name(model)}/"

    @property
    def code_prefix(self) -> str:
        """The key prefix of all code that jobs run, ending in a slash."""
        return "code/"

    def code_archive_key(self, deployable: str, digest: str) -> str:
        """Return the key of a deployable's code archive, named by its content.

        Args:
            deployable: The package that it holds, say `glue_scripts`.
            digest: SHA-256 of the archive, 64 lower-case hexadecimal digits.
        """
        _require(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{_require(_DIGEST, digest, 'digest')}.zip"

    def code_tree_prefix(self, deployable: str, digest: str) -> str:
        """Return the key prefix of a deployable's code as single files, ending in a slash.

        Args:
            deployable: The package that it holds, say `sagemaker_scripts`.
            digest: SHA-256 of the same code as an archive.
        """
        _require(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{_require(_DIGEST, digest, 'digest')}/"

    def training_code_key(self, digest: str) -> str:
        """Return the key of the `tar.gz` that a training job unpacks; not below the tree of the same code."""
        return f"{self.code_prefix}sagemaker_scripts/{_require(_DIGEST, digest, 'digest')}.tar.gz"

    @property
    def load_script_key(self) -> str:
        """The key of the script that the Glue job starts; its package lies in the code archive."""
        return f"{self.code_prefix}glue_scripts/load_predictions.py"

    # DynamoDB.

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
        return self._name(f"predictions-{require_model_name(model)}")

    def online_table_arn(self, model: str) -> str:
        """Return the ARN of a model's table of predictions in this region."""
        return self._arn("dynamodb", f"table/{self.online_table(model)}")

    @property
    def online_tables_prefix(self) -> str:
        """What the name of every model's online table begins with; the model's name follows."""
        return self._name("predictions-")

    @property
    def online_tables_arn_pattern(self) -> str:
        """What matches the ARN of every model's online table, so that a new model changes no policy."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*")

    @property
    def online_replicas_arn_pattern(self) -> str:
        """What matches the ARN of every model's online table in any region that serves."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*", region="*")

    # The notice of done files.

    @property
    def done_file_rule(self) -> str:
        """The EventBridge rule that notices done files, on the default bus."""
        return self._name("done-files")

    @property
    def done_file_rule_arn(self) -> str:
        """The rule's ARN."""
        return self._arn("events", f"rule/{self.done_file_rule}")

    @property
    def done_file_queue(self) -> str:
        """The queue that the sensor reads."""
        return self._name("done-files")

    @property
    def done_file_queue_arn(self) -> str:
        """The queue's ARN."""
        return self._arn("sqs", self.done_file_queue)

    @property
    def dead_letter_queue(self) -> str:
        """The queue that takes what the sensor could not handle after several receives."""
        return self._name("done-files-dead")

    @property
    def dead_letter_queue_arn(self) -> str:
        """The dead-letter queue's ARN."""
        return self._arn("sqs", self.dead_letter_queue)

    @property
    def alarm_topic(self) -> str:
        """The SNS topic that alarms are sent to."""
        return self._name("alarms")

    @property
    def api_alarm_topic(self) -> str:
        """The SNS topic that alarms about the API are sent to; each region has its own."""
        return self._name("api-alarms")

    @property
    def api_alarm_topic_arn(self) -> str:
        """That topic's ARN in this region."""
        return self._arn("sns", self.api_alarm_topic)

    @property
    def alarm_topic_arn(self) -> str:
        """The topic's ARN in this region."""
        return self._arn("sns", self.alarm_topic)

    def alarm(self, what: str) -> str:
        """Return the name of an alarm about something, say `api-errors`."""
        return self._name(what)

    def alarm_arn(self, what: str) -> str:
        """Return the ARN of an alarm in this region."""
        return self._arn("cloudwatch", f"alarm:{self.alarm(what)}")

    @property
    def alarm_arn_pattern(self) -> str:
        """What matches the ARN of every alarm in this region."""
        return self._arn("cloudwatch", f"alarm:{PREFIX}-{self.stage}-*")

    # Jobs.

    @property
    def load_job(self) -> str:
        """The Glue job that loads the batches of every model."""
        return self._name("load-predictions")

    @property
    def load_job_arn(self) -> str:
        """The Glue job's ARN."""
        return self._arn("glue", f"job/{self.load_job}")

    def model_package_group(self, model: str) -> str:
        """Return the SageMaker model package group of a model.

        SageMaker takes hyphens for underscores, but none at the end: trailing underscores become a count
        before the name. A model never starts with a digit, so no two models share a group.
        """
        name = require_model_name(model)
        stem = name.rstrip("_")
        trailing = len(name) - len(stem)
        readable = stem.replace("_", "-")
        return self._name(f"{trailing}-{readable}" if trailing else readable)

    def model_package_group_arn(self, model: str) -> str:
        """Return the ARN of a model's package group."""
        return self._arn("sagemaker", f"model-package-group/{self.model_package_group(model)}")

    def scoring_pipeline(self, model: str) -> str:
        """Return the SageMaker pipeline of a model that SageMaker itself scores."""
        return self.model_package_group(model)

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

    @property
    def dagster_image_repository(self) -> str:
        """The ECR repository of the image of Dagster's services and runs."""
        return self._name("dagster")

    @property
    def dagster_image_repository_arn(self) -> str:
        """That repository's ARN in this region."""
        return self._arn("ecr", f"repository/{self.dagster_image_repository}")

    @property
    def dagster_tasks_arn_pattern(self) -> str:
        """What matches the ARN of every task of Dagster's."""
        return self._arn("ecs", f"task/{self.dagster_cluster}/*")

    @property
    def dagster_run_family(self) -> str:
        """The ECS task family of a run."""
        return f"{self.dagster_cluster}-run"

    @property
    def dagster_namespace(self) -> str:
        """The private DNS domain that Dagster's services find one another in."""
        return f"{PREFIX}-{self.stage}.internal"

    @property
    def dagster_cluster(self) -> str:
        """The ECS cluster, and the prefix of the task families, that Dagster runs in."""
        return self._name("dagster")

    # Roles. IAM is global: only the API's role exists once per serving region, so it carries the region.

    @property
    def glue_load_role(self) -> str:
        """The role of the Glue load job."""
        return self._name("glue-load")

    @property
    def sagemaker_role(self) -> str:
        """The execution role of SageMaker's processing and training jobs."""
        return self._name("sagemaker-execution")

    @property
    def api_role(self) -> str:
        """The role of the API's Lambda in this region."""
        return self._name(f"api-lambda-{self.region}")

    @property
    def dagster_run_role(self) -> str:
        """The role of a Dagster run: starts jobs, checks, publishes."""
        return self._name("dagster-run")

    @property
    def dagster_daemon_role(self) -> str:
        """The role of Dagster's daemon and code server: notices done files, launches runs."""
        return self._name("dagster-daemon")

    @property
    def dagster_webserver_role(self) -> str:
        """The role of Dagster's web server: shows logs, stops runs."""
        return self._name("dagster-webserver")

    @property
    def dagster_execution_role(self) -> str:
        """The role by which ECS starts Dagster's tasks: image, secrets, logs."""
        return self._name("dagster-execution")

    @property
    def api_deployment_role(self) -> str:
        """The role by which CodeDeploy shifts the API's traffic in this region."""
        return self._name(f"api-deployment-{self.region}")

    @property
    def scoring_schedule_role(self) -> str:
        """The role by which schedules start SageMaker's own scoring."""
        return self._name("scoring-schedule")

    @property
    def snowflake_access_role(self) -> str:
        """The role that Snowflake itself assumes to read the data bucket."""
        return self._name("snowflake-access")

    @property
    def snowflake_access_role_arn(self) -> str:
        """That role's ARN, which the storage integration names."""
        return self._arn("iam", f"role/{self.snowflake_access_role}", region="")

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of all roles that a service of AWS assumes."""
        return (
            self.glue_load_role,
            self.sagemaker_role,
            self.api_role,
            self.dagster_run_role,
            self.dagster_daemon_role,
            self.dagster_webserver_role,
            self.dagster_execution_role,
            self.api_deployment_role,
            self.scoring_schedule_role,
        )

    def role_arn(self, role: str) -> str:
        """Return the ARN of one of the deployment's roles.

        Raises:
            InvalidNameError: The role is none of this deployment's.
        """
        if role not in self.roles:
            raise InvalidNameError(
                f"role {role!r} is none of the deployment's", remedy=f"Take one of {', '.join(self.roles)}"
            )
        return self._arn("iam", f"role/{role}", region="")

    # The API and its tokens.

    @property
    def api_function(self) -> str:
        """The Lambda function of the API."""
        return self._name("api")

    @property
    def api_alias(self) -> str:
        """The alias of the function that the load balancer calls."""
        return "live"

    @property
    def api_function_arn(self) -> str:
        """The Lambda function's ARN without version or alias."""
        return self._arn("lambda", f"function:{self.api_function}")

    @property
    def api_load_balancer(self) -> str:
        """The load balancer of the API, and its target group."""
        return self._name("api")

    @property
    def user_pool(self) -> str:
        """The Cognito pool that issues the API's tokens; its id is Cognito's own."""
        return self._name("api")

    @property
    def resource_server(self) -> str:
        """The identifier of the API as a resource server, the first part of its scopes."""
        return self._name("api")

    @property
    def read_scope(self) -> str:
        """The scope as it is requested and as it stands in a token: `<resource server>/predictions:read`."""
        return f"{self.resource_server}/{READ_SCOPE}"

    @property
    def token_client(self) -> str:
        """The client that obtains tokens by client credentials; its id is Cognito's own."""
        return self._name("api-reader")

    @property
    def token_domain(self) -> str:
        """The Cognito domain prefix of the token endpoint, unique within the region over all accounts."""
        stage = self.stage
        if any(word in stage for word in _COGNITO_RESERVED):
            stage = hashlib.sha256(stage.encode()).hexdigest()[:12]
        return f"{PREFIX}-{stage}-{self.account_id}"

    # Secrets. None ends in a hyphen and six characters: Secrets Manager would take that for its own suffix.

    @property
    def snowflake_secret(self) -> str:
        """The secret that holds the Snowflake connection as one JSON document."""
        return self._name("snowflake")

    @property
    def dagster_database_secret(self) -> str:
        """The secret that holds user and password of Dagster's Postgres."""
        return self._name("dagster-database")

    @property
    def token_client_secret(self) -> str:
        """The secret that holds the token client's id and secret as one JSON document."""
        return self._name("client-credentials")

    def provider_secret(self, provider: str) -> str:
        """Return the secret that holds a third-party provider's token; providers are named like models."""
        return self._name(f"providers/{_require(_MODEL, provider, 'provider name')}")

    def secret_arn_pattern(self, name: str) -> str:
        """Return what matches the ARN of a secret, whose last six characters Secrets Manager invents."""
        return self._arn("secretsmanager", f"secret:{name}-??????")

    @property
    def provider_secrets_arn_pattern(self) -> str:
        """What matches the ARN of every provider's secret."""
        return self._arn("secretsmanager", f"secret:{self._name('providers/')}*")

    # Snowflake.

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
        """The external stage over the data bucket, within the schema."""
        return SNOWFLAKE_STAGE

    @property
    def snowflake_role(self) -> str:
        """The Snowflake role that loads and publishes."""
        return f"{self.snowflake_database}_LOADER"

    @property
    def snowflake_integration(self) -> str:
        """The storage integration, which is account-wide, through which Snowflake reads the bucket."""
        return f"{self.snowflake_database}_S3"

    # Logs.

    @property
    def api_log_group(self) -> str:
        """The log group of the API's Lambda."""
        return f"/aws/lambda/{self.api_function}"

    @property
    def firewall_log_group(self) -> str:
        """The log group of the API's firewall; WAF demands how it begins."""
        return f"aws-waf-logs-{self._name('api')}"

    @property
    def dagster_log_group(self) -> str:
        """The log group of Dagster's daemon, web server and runs."""
        return f"/{PREFIX}/{self.stage}/dagster"

    def log_group_arn(self, log_group: str) -> str:
        """Return the ARN of a log group; its streams are this and `:*`."""
        return self._arn("logs", f"log-group:{log_group}")
