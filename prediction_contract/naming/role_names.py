"""Names of the roles. IAM is global: only the API's roles exist once per serving region, and carry it."""

from __future__ import annotations

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.deployment_scope import Place


class RoleNames(Place):
    """Names of the roles. IAM is global: only the API's roles exist once per serving region, and carry it."""

    __slots__ = ()

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
    def scoring_pipeline_role(self) -> str:
        """The role by which a pipeline of SageMaker's own scoring starts its jobs."""
        return self._name("scoring-pipeline")

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
            self.scoring_pipeline_role,
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
