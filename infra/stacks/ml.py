"""The stack of what SageMaker needs: its jobs' role and image repository, a package group for each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

from infra.capabilities.image_repository import add_repository
from infra.capabilities.roles import add_role
from infra.role_definitions import sagemaker_role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from constructs import Construct

    from infra.model_declarations import DeclaredModel
    from infra.settings import StageSettings


class MlStack(cdk.Stack):
    """SageMaker's side, in the home region; trained models lie in the data bucket, a prefix for each."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: StageSettings,
        models: Iterable[DeclaredModel],
        **options: Any,
    ) -> None:
        super().__init__(scope, construct_id, **options)
        deployment = settings.deployment()
        add_role(self, "JobRole", deployment, sagemaker_role(deployment))
        add_repository(self, "JobImageRepository", deployment.job_image_repository)
        for model in models:
            group = sagemaker.CfnModelPackageGroup(
                self,
                f"Packages-{model.name}",
                model_package_group_name=deployment.model_package_group(model.name),
                model_package_group_description=f"Trained models of {model.name}",
            )
            group.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
