"""The stack for SageMaker: roles, image repository, package groups, pipelines, schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

from infra.capabilities.data.model_pipeline import add_pipeline
from infra.capabilities.image_repository import add_repository
from infra.capabilities.roles import add_role
from infra.definitions import pipeline_definitions
from infra.permissions.platform_roles import (
    retraining_pipeline_role,
    retraining_schedule_role,
    scoring_pipeline_role,
    scoring_schedule_role,
)
from infra.permissions.role_definitions import sagemaker_role
from infra.stacks.stage_stack import StageStack
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.permissions.policy_statements import Statement
    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings


class MlStack(StageStack):
    """SageMaker's resources in the home region. Trained models lie in the data bucket, by model."""

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
                ("RetrainingPipelineRole", retraining_pipeline_role),
                ("RetrainingScheduleRole", retraining_schedule_role),
            )
        ]
        add_repository(self, "JobImageRepository", deployment.job_image_repository, families=families)
        pipelines = []
        for model in models:
            definition = pipeline_definitions.package_group(deployment, model.name)
            group = sagemaker.CfnModelPackageGroup(
                self,
                f"Packages-{model_name_stem(model.name)}",
                model_package_group_name=definition.name,
                model_package_group_description=definition.description,
                model_package_group_policy=definition.policy,
            )
            group.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
            if model.scheduled is not None:
                pipelines.append(
                    pipeline_definitions.scoring(deployment, model.scheduled, code_digest=code_digest)
                )
            if model.retrained is not None:
                pipelines.append(
                    pipeline_definitions.retraining(deployment, model.retrained, code_digest=code_digest)
                )
        for pipeline in pipelines:
            # The pipeline and its schedule assume their roles as soon as they are created.
            add_pipeline(self, pipeline).node.add_dependency(*roles)
