"""The names of the API, Dagster, queues, alarms and roles."""

from __future__ import annotations

import hashlib

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.deployment_scope import MODEL, PREFIX, DeploymentScope, validated

READ_SCOPE = "predictions:read"
# The platform's own variables MLPIPE_<...>_URL, which providers must not override.
_OWN_ADDRESSES = frozenset({"api", "done_queue", "jwks", "model_events_queue", "token"})
# Cognito does not allow these words in a domain.
_COGNITO_RESERVED = ("aws", "amazon", "cognito")


def validated_provider_name(provider: str) -> str:
    """Return a provider's name if it can be used in `MLPIPE_<PROVIDER>_URL` and in the name of a secret.

    Raises:
        InvalidNameError: It does not have the form of a model's name, or the platform uses the variable.
    """
    if validated(MODEL, provider, "provider name") in _OWN_ADDRESSES:
        raise InvalidNameError(
            f"provider name {provider!r} cannot be used: MLPIPE_{provider.upper()}_URL is the platform's own",
            remedy="Choose another name for the provider",
        )
    return provider


class ServiceNames(DeploymentScope):
    """The names of the API and its tokens, Dagster, queues, alarms and roles.

    IAM is global. Only the API's roles exist once per serving region; their names contain it.
    """

    __slots__ = ()

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
    def api_logs_bucket(self) -> str:
        """The bucket of the load balancer's access logs in this region."""
        return self._name(f"api-logs-{self.account_id}-{self.region}")

    @property
    def api_log_group(self) -> str:
        """The log group of the API's Lambda."""
        return f"/aws/lambda/{self.api_function}"

    @property
    def firewall_log_group(self) -> str:
        """The log group of the API's firewall; WAF requires its prefix."""
        return f"aws-waf-logs-{self._name('api')}"

    @property
    def api_alarm_topic(self) -> str:
        """The SNS topic for alarms about the API; each region has its own."""
        return self._name("api-alarms")

    @property
    def api_alarm_topic_arn(self) -> str:
        """That topic's ARN in this region."""
        return self._arn("sns", self.api_alarm_topic)

    @property
    def user_pool(self) -> str:
        """The Cognito pool that issues the API's tokens; Cognito chooses its id."""
        return self._name("api")

    @property
    def resource_server(self) -> str:
        """The identifier of the API as a resource server, the first part of its scopes."""
        return self._name("api")

    @property
    def read_scope(self) -> str:
        """The scope in requests and in tokens: `<resource server>/predictions:read`."""
        return f"{self.resource_server}/{READ_SCOPE}"

    @property
    def token_client(self) -> str:
        """The client that obtains tokens with client credentials; Cognito chooses its id."""
        return self._name("api-reader")

    @property
    def token_domain(self) -> str:
        """The Cognito domain prefix of the token endpoint, unique in the region across all accounts."""
        stage = self.stage
        if any(word in stage for word in _COGNITO_RESERVED):
            stage = hashlib.sha256(stage.encode()).hexdigest()[:12]
        return f"{PREFIX}-{stage}-{self.account_id}"

    @property
    def token_client_secret(self) -> str:
        """The secret with the token client's id and secret as a JSON document."""
        return self._name("client-credentials")

    def provider_secret(self, provider: str) -> str:
        """Return the secret with a third-party provider's token; providers are named like models."""
        return self._name(f"providers/{validated_provider_name(provider)}")

    @property
    def provider_secrets_arn_pattern(self) -> str:
        """The pattern of the ARN of every provider's secret."""
        return self._arn("secretsmanager", f"secret:{self._name('providers/')}*")

    @property
    def dagster_cluster(self) -> str:
        """Dagster's ECS cluster, and the prefix of its task families."""
        return self._name("dagster")

    @property
    def dagster_run_family(self) -> str:
        """The ECS task family of a run."""
        return f"{self.dagster_cluster}-run"

    @property
    def dagster_tasks_arn_pattern(self) -> str:
        """The ARN pattern of all tasks of Dagster."""
        return self._arn("ecs", f"task/{self.dagster_cluster}/*")

    @property
    def dagster_namespace(self) -> str:
        """The private DNS domain of Dagster's services."""
        return f"{PREFIX}-{self.stage}.internal"

    @property
    def dagster_image_repository(self) -> str:
        """The ECR repository of the image of Dagster's services and runs."""
        return self._name("dagster")

    @property
    def dagster_image_repository_arn(self) -> str:
        """That repository's ARN in this region."""
        return self._arn("ecr", f"repository/{self.dagster_image_repository}")

    @property
    def dagster_database_secret(self) -> str:
        """The secret with the user and password of Dagster's Postgres."""
        return self._name("dagster-database")

    @property
    def dagster_database(self) -> str:
        """The RDS instance of Dagster's Postgres."""
        return self._name("dagster")

    @property
    def dagster_database_log_group(self) -> str:
        """The log group of Postgres; RDS names it after the instance."""
        return f"/aws/rds/instance/{self.dagster_database}/postgresql"

    @property
    def dagster_metrics_log_group(self) -> str:
        """The log group of Container Insights for the cluster; ECS names it after the cluster."""
        return f"/aws/ecs/containerinsights/{self.dagster_cluster}/performance"

    @property
    def dagster_log_group(self) -> str:
        """The log group of Dagster's daemon, web server and runs."""
        return f"/{PREFIX}/{self.stage}/dagster"

    @property
    def done_file_rule(self) -> str:
        """The EventBridge rule for done files, on the default bus."""
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
    def model_events_rule(self) -> str:
        """The EventBridge rule for model packages and retraining executions, on the default bus."""
        return self._name("model-events")

    @property
    def model_events_rule_arn(self) -> str:
        """The rule's ARN."""
        return self._arn("events", f"rule/{self.model_events_rule}")

    @property
    def model_events_queue(self) -> str:
        """The queue that the sensor of model versions reads."""
        return self._name("model-events")

    @property
    def model_events_queue_arn(self) -> str:
        """The queue's ARN."""
        return self._arn("sqs", self.model_events_queue)

    @property
    def dead_letter_queue(self) -> str:
        """The queue for messages that a sensor could not handle after several receives."""
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
    def alarm_topic_arn(self) -> str:
        """The topic's ARN in this region."""
        return self._arn("sns", self.alarm_topic)

    def alarm(self, what: str) -> str:
        """Return the name of an alarm about something, for example `api-errors`."""
        return self._name(what)

    def alarm_arn(self, what: str) -> str:
        """Return the ARN of an alarm in this region."""
        return self._arn("cloudwatch", f"alarm:{self.alarm(what)}")

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
        """The role with which ECS starts Dagster's tasks: image, secrets, logs."""
        return self._name("dagster-execution")

    @property
    def api_deployment_role(self) -> str:
        """The role with which CodeDeploy shifts the API's traffic in this region."""
        return self._name(f"api-deployment-{self.region}")

    @property
    def scoring_schedule_role(self) -> str:
        """The role with which schedules start scoring without Dagster."""
        return self._name("scoring-schedule")

    @property
    def scoring_pipeline_role(self) -> str:
        """The role with which a scoring pipeline starts its jobs."""
        return self._name("scoring-pipeline")

    @property
    def retraining_schedule_role(self) -> str:
        """The role with which schedules start retraining."""
        return self._name("retraining-schedule")

    @property
    def retraining_pipeline_role(self) -> str:
        """The role with which a retraining pipeline starts its jobs and registers model packages."""
        return self._name("retraining-pipeline")

    @property
    def snowflake_access_role(self) -> str:
        """The role that Snowflake itself assumes to read the data bucket."""
        return self._name("snowflake-access")

    @property
    def snowflake_access_role_arn(self) -> str:
        """That role's ARN, which the storage integration contains."""
        return self._arn("iam", f"role/{self.snowflake_access_role}", region="")

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of all roles that AWS services assume."""
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
            self.scoring_pipeline_role,
            self.retraining_schedule_role,
            self.retraining_pipeline_role,
        )

    @property
    def roles_arn_pattern(self) -> str:
        """The ARN pattern of all roles of the deployment."""
        return self._arn("iam", f"role/{self._name('*')}", region="")

    def role_arn(self, role: str) -> str:
        """Return the ARN of one of the deployment's roles.

        Raises:
            InvalidNameError: The role is not one of this deployment's.
        """
        if role not in self.roles:
            raise InvalidNameError(
                f"role {role!r} is not a role of the deployment", remedy=f"Use one of {', '.join(self.roles)}"
            )
        return self._arn("iam", f"role/{role}", region="")
