"""The stack of what SageMaker needs: roles, image repository, package groups, its own scoring schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

from infra.capabilities.data.scoring_schedule import add_scoring_schedule
from infra.capabilities.image_repository import add_repository
from infra.capabilities.roles import add_role
from infra.permissions.platform_roles import scoring_pipeline_role, scoring_schedule_role
from infra.permissions.role_definitions import sagemaker_role
from infra.stacks.stage_stack import StageStack
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aws_cdk import aws_iam as iam

    from infra.permissions.policy_statements import Statement
    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings
    from model_declaration.declaration import ModelDeclaration


class MlStack(StageStack):
    """SageMaker's side, in the home region; trained models lie in the data bucket, a prefix for each."""

    def __init__(
        self,
        app: cdk.App,
        settings: StageSettings,
        models: Iterable[ProvisionedModel],
        *,
        families: Sequence[str],
        sources: Sequence[Statement],
        code_digest: str,
    ) -> None:
        super().__init__(app, "ml", settings)
        deployment = self.deployment
        add_role(self, "JobRole", deployment, sagemaker_role(deployment, sources))
        roles = [
            add_role(self, construct_id, deployment, role(deployment))
            for construct_id, role in (
                ("PipelineRole", scoring_pipeline_role),
                ("ScheduleRole", scoring_schedule_role),
            )
        ]
        add_repository(self, "JobImageRepository", deployment.job_image_repository, families=families)
        scheduled = []
        for model in models:
            group = sagemaker.CfnModelPackageGroup(
                self,
                f"Packages-{model_name_stem(model.name)}",
                model_package_group_name=deployment.model_package_group(model.name),
                model_package_group_description=f"Trained models of {model.name}",
            )
            group.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
            if model.scheduled is not None:
                scheduled.append(model.scheduled)
        if scheduled:
            self._schedule(scheduled, roles, code_digest)

    def _schedule(
        self, models: Iterable[ModelDeclaration], roles: list[iam.CfnRole], code_digest: str
    ) -> None:
        """Add pipeline and schedule of each model that SageMaker itself scores."""
        for model in models:
            pipeline = add_scoring_schedule(self, self.deployment, model, code_digest=code_digest)
            # Both assume their role as soon as they are there.
            pipeline.node.add_dependency(*roles)
