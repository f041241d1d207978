"""A pipeline of SageMaker's own for a model that it scores, and the schedule that starts it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aws_cdk import aws_sagemaker as sagemaker

from infra.capabilities.data.pipeline_schedule import add_pipeline_schedule
from infra.definitions.scoring_pipeline import pipeline_definition, start_request
from model_declaration.cron import scheduler_cron
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    import aws_cdk as cdk

    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.naming.resource_names import Deployment


def add_scoring_schedule(
    stack: cdk.Stack,
    deployment: Deployment,
    model: ModelDeclaration,
    *,
    code_digest: str,
) -> sagemaker.CfnPipeline:
    """Add both, and return the pipeline.

    Args:
        stack: Whose.
        deployment: Where.
        model: One that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.scoring_pipeline(model.name)
    definition = pipeline_definition(deployment, model, code_digest=code_digest)
    pipeline = sagemaker.CfnPipeline(
        stack,
        f"Scoring-{model_name_stem(model.name)}",
        pipeline_name=name,
        pipeline_description=f"Scores the partition of {model.name} that is due",
        pipeline_definition={"PipelineDefinitionBody": json.dumps(definition)},
        role_arn=deployment.role_arn(deployment.scoring_pipeline_role),
    )
    add_pipeline_schedule(
        pipeline,
        f"ScoringSchedule-{model_name_stem(model.name)}",
        deployment,
        description=f"Starts the scoring of {model.name}",
        expression=scheduler_cron(model.schedule.cron_of(model.partitions)),
        role=deployment.scoring_schedule_role,
        request=start_request(name),
        runs=model.schedule.running,
    )
    return pipeline
