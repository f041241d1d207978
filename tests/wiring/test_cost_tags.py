"""Resources, jobs and tasks have the cost tag that the stage's budget filters by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.settings import Settings
from prediction_contract.jobs.job_arguments import FeatureArguments
from tests.dagster.small_model import declaration
from tests.infra.cdk.dagster_tasks import containers, variables
from tests.infra.cdk.scoring_pipelines import MODELS, definition
from tests.infra.cdk.synthesis import ROOT
from tests.infra.cdk.templates import STACKS, STAGES

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

TAG_PROPERTIES = ("Tags", "HealthCheckTags", "ResourceTags", "UserPoolTags")
# Resource types that CloudFormation cannot tag; none of them costs anything by itself.
WITHOUT_TAGS = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Cognito::UserPoolClient",
    "AWS::Cognito::UserPoolDomain",
    "AWS::Cognito::UserPoolResourceServer",
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::KMS::Alias",
    "AWS::Lambda::Alias",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::Route53::RecordSet",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
    "AWS::WAFv2::LoggingConfiguration",
    "AWS::WAFv2::WebACLAssociation",
}


def budget_tag(templates: Templates, stage: str) -> tuple[str, str]:
    """Return key and value of the tag that the stage's budget filters by."""
    budget = templates.one(stage, "observability", "AWS::Budgets::Budget")["Budget"]
    (condition,) = budget["CostFilters"]["TagKeyValue"]
    key, _, value = condition.removeprefix("user:").partition("$")
    return key, value


@pytest.mark.parametrize("stage", STAGES)
def test_every_resource_has_the_budget_tag(templates: Templates, stage: str) -> None:
    """Every resource that can be tagged is tagged, including table replicas in other regions."""
    key, value = budget_tag(templates, stage)
    tag = {"Key": key, "Value": value}
    for stack in STACKS:
        for name, each in templates.template(stage, stack)["Resources"].items():
            properties = each.get("Properties", {})
            if each["Type"] == "AWS::DynamoDB::GlobalTable":
                assert all(tag in replica["Tags"] for replica in properties["Replicas"]), name
            elif each["Type"] not in WITHOUT_TAGS:
                (found,) = [properties[each] for each in TAG_PROPERTIES if each in properties]
                assert found == {key: value} or tag in found, name


@pytest.mark.parametrize("stage", STAGES)
def test_jobs_and_runs_have_the_budget_tag(templates: Templates, stage: str) -> None:
    """SageMaker jobs get it from their request, and tasks of runs from the run launcher."""
    key, value = budget_tag(templates, stage)
    run = containers(templates, stage)["run"]
    environment = variables(run)
    settings = Settings.from_environment(environment)
    model = declaration("churn")
    features = FeatureArguments(
        model="churn",
        partition="2013-02-01",
        bucket=settings.data_bucket,
        run_id="run",
        code_version="1",
        inputs_key="models/churn/inputs-abc.json",
    )
    request = processing_request(settings, model, "prepare_features.py", features)
    assert {"Key": key, "Value": value} in request["Tags"]
    instance: Any = yaml.safe_load((ROOT / "mlpipe_dagster" / "instances" / "production.yaml").read_text())
    (tag,) = instance["run_launcher"]["config"]["run_ecs_tags"]
    assert (tag["key"], environment[tag["value"]["env"]]) == (key, value)


def test_documented_tasks_get_the_budget_tag() -> None:
    """A task inherits its definition's tags only if the command propagates them."""
    pages = (path.read_text().replace("\\\n", "") for path in (ROOT / "docs").glob("*.md"))
    commands = [
        command for page in pages for command in re.findall(r"^aws ecs run-task.*", page, re.MULTILINE)
    ]
    assert commands
    assert all("--propagate-tags TASK_DEFINITION" in command for command in commands)


def test_pipeline_steps_have_the_budget_tag(scored_by_sagemaker: Templates) -> None:
    """Jobs inherit no tags from their pipeline, so each step names the tag."""
    key, value = budget_tag(scored_by_sagemaker, "prod")
    for model in MODELS:
        for step in definition(scored_by_sagemaker, model)["Steps"]:
            assert {"Key": key, "Value": value} in step["Arguments"]["Tags"]
