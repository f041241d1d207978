"""Read the templates of models that SageMaker scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
from botocore.validate import ParamValidator

from tests.infra.cdk.templates import HOME
from tests.infra.example_stages import STAGES as SETTINGS
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

MODELS = (DAILY, LEAST, HOURLY)
DEPLOYMENT = SETTINGS["prod"].deployment()
TICK, EXECUTION = "2013-02-04T05:30:00Z", "u5hlwpzq3yqn"


def named(templates: Templates, kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the stack's resources of a type, by the property that names them."""
    return {each[name]: each for each in templates.properties("prod", "ml", kind)}


def definition(templates: Templates, model: str) -> dict[str, Any]:
    """Return a model's pipeline definition."""
    pipelines = named(templates, "AWS::SageMaker::Pipeline", "PipelineName")
    body = pipelines[DEPLOYMENT.scoring_pipeline(model)]["PipelineDefinition"]["PipelineDefinitionBody"]
    return json.loads(body)


def valid(service: str, operation: str, request: dict[str, Any]) -> bool:
    """Return True if AWS's service model accepts a request for an operation, and fail otherwise."""
    client = boto3.client(service, region_name=HOME)
    shape = client.meta.service_model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    return True
