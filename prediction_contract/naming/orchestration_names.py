"""Names of what Dagster runs in."""

from __future__ import annotations

from prediction_contract.naming.deployment_scope import PREFIX, Place


class OrchestrationNames(Place):
    """Names of what Dagster runs in."""

    __slots__ = ()

    @property
    def dagster_cluster(self) -> str:
        """The ECS cluster, and the prefix of the task families, that Dagster runs in."""
        return self._name("dagster")

    @property
    def dagster_run_family(self) -> str:
        """The ECS task family of a run."""
        return f"{self.dagster_cluster}-run"

    @property
    def dagster_tasks_arn_pattern(self) -> str:
        """What matches the ARN of every task of Dagster's."""
        return self._arn("ecs", f"task/{self.dagster_cluster}/*")

    @property
    def dagster_namespace(self) -> str:
        """The private DNS domain that Dagster's services find one another in."""
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
        """The secret that holds user and password of Dagster's Postgres."""
        return self._name("dagster-database")

    @property
    def dagster_database(self) -> str:
        """The RDS instance of Dagster's Postgres."""
        return self._name("dagster")

    @property
    def dagster_database_log_group(self) -> str:
        """Where RDS writes Postgres's log; RDS names it by the instance."""
        return f"/aws/rds/instance/{self.dagster_database}/postgresql"

    @property
    def dagster_metrics_log_group(self) -> str:
        """Where Container Insights writes what the cluster uses; ECS names it by the cluster."""
        return f"/aws/ecs/containerinsights/{self.dagster_cluster}/performance"

    @property
    def dagster_log_group(self) -> str:
        """The log group of Dagster's daemon, web server and runs."""
        return f"/{PREFIX}/{self.stage}/dagster"
