"""The pipeline that retrains a model, and the schedule that starts it where one is declared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aws_cdk import aws_sagemaker as sagemaker

from infra.capabilities.data.pipeline_schedule import add_pipeline_schedule
from infra.definitions.retraining_pipeline import pipeline_definition, start_request
from model_declaration.cron import scheduler_cron
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    import aws_cdk as cdk

    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.naming.resource_names import Deployment


def add_retraining(
    stack: cdk.Stack, deployment: Deployment, model: ModelDeclaration, *, code_digest: str
) -> sagemaker.CfnPipeline:
    """Add both, and return the pipeline.

    Args:
        stack: Whose.
        deployment: Where.
        model: One that declares what it learns from.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.retraining_pipeline(model.name)
    definition = pipeline_definition(deployment, model, code_digest=code_digest)
    pipeline = sagemaker.CfnPipeline(
        stack,
        f"Retraining-{model_name_stem(model.name)}",
        pipeline_name=name,
        pipeline_description=f"Trains {model.name}, judges it beside its champion and registers it",
        pipeline_definition={"PipelineDefinitionBody": json.dumps(definition)},
        role_arn=deployment.role_arn(deployment.retraining_pipeline_role),
    )
    if model.retraining and model.retraining.schedule:
        add_pipeline_schedule(
            pipeline,
            f"RetrainingSchedule-{model_name_stem(model.name)}",
            deployment,
            description=f"Starts the retraining of {model.name}",
            expression=scheduler_cron(model.retraining.schedule),
            role=deployment.retraining_schedule_role,
            request=start_request(name),
        )
    return pipeline
