"""Tests that all stages are synthesised offline, in time and without unexplained findings."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from infra.permissions import platform_roles, role_definitions
from infra.provisioned_models import provisioned_models
from infra.source_access import stage_source_statements
from tests.infra.cdk.synthesis import ROOT, cdk_program
from tests.infra.cdk.templates import AWAY, STACKS, STAGES, strings
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

MAX_CPU_SECONDS = 60
ALL = [(stage, stack) for stage in STAGES for stack in STACKS]


def test_every_stage_and_region_is_synthesised_offline(templates: Templates) -> None:
    """Each stage has all its stacks, the API's in both regions, without any lookup."""
    for stage in STAGES:
        manifest = json.loads((templates.folder / stage / "manifest.json").read_text())
        stacks = [name for name, each in manifest["artifacts"].items() if each["type"].endswith(":stack")]
        assert sorted(stacks) == sorted(f"mlpipe-{stage}-{stack}" for stack in STACKS)
        assert manifest.get("missing", []) == []
        assert not (templates.folder / stage / "cdk.context.json").exists()
        away = manifest["artifacts"][f"mlpipe-{stage}-api-{AWAY}"]
        assert away["environment"] == f"aws://{SETTINGS[stage].account_id}/{AWAY}"
    assert not (ROOT / "cdk.context.json").exists()


def test_synthesis_takes_at_most_a_minute_per_stage(templates: Templates) -> None:
    """The synthesis of all stages in one process takes at most a minute of CPU time for each."""
    assert templates.cpu_seconds <= MAX_CPU_SECONDS * len(STAGES)


@pytest.mark.parametrize(("stage", "stack"), ALL)
def test_no_dummy_zone_and_no_added_function(templates: Templates, stage: str, stack: str) -> None:
    """Zones are those of the settings, and no custom resource adds a Lambda function."""
    template = templates.template(stage, stack)
    assert [text for text in strings(template) if "dummy" in text] == []
    kinds = {each["Type"] for each in template["Resources"].values()}
    assert [kind for kind in kinds if "Custom" in kind] == []
    functions = templates.found(stage, stack, "AWS::Lambda::Function")
    assert len(functions) == (1 if stack.startswith("api-") else 0)
    zones = {each["AvailabilityZone"] for each in templates.properties(stage, stack, "AWS::EC2::Subnet")}
    assert zones <= {zone for region in SETTINGS[stage].regions for zone in region.availability_zones}


@pytest.mark.parametrize("stage", STAGES)
def test_validation_has_no_findings(templates: Templates, stage: str) -> None:
    """Neither the CDK's own validation nor the rules of AWS Solutions have a finding."""
    report = json.loads((templates.folder / stage / "validation-report.json").read_text())
    assert report["pluginReports"]
    for plugin in report["pluginReports"]:
        assert plugin["conclusion"] == "success", plugin
        assert plugin["violations"] == []


@pytest.mark.parametrize(("stage", "stack"), ALL)
def test_ignored_lint_checks_have_reasons(templates: Templates, stage: str, stack: str) -> None:
    """A lint check is ignored only on single resources, with a reason for each."""
    template = templates.template(stage, stack)
    assert "cfn-lint" not in template.get("Metadata", {})
    for each in template["Resources"].values():
        metadata = each.get("Metadata", {})
        ignored = metadata.get("cfn-lint", {}).get("config", {}).get("ignore_checks", [])
        reasons = metadata.get("mlpipe:reasons", {})
        assert sorted(reasons) == ignored
        assert all(len(reason.split()) > 4 for reason in reasons.values())


@pytest.mark.slow
def test_lint_finds_nothing(templates: Templates) -> None:
    """cfn-lint accepts every template, warnings included."""
    found = sorted(str(path) for path in templates.folder.glob("*/*.template.json"))
    done = subprocess.run(
        [str(cdk_program("cfn-lint")), *found],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert len(found) == len(ALL)


def roles_of(templates: Templates, stage: str, stack: str) -> dict[str, dict[str, Any]]:
    """Return a stack's roles by name."""
    return {each["RoleName"]: each for each in templates.properties(stage, stack, "AWS::IAM::Role")}


@pytest.mark.parametrize("stage", STAGES)
def test_roles_match_their_definitions(templates: Templates, stage: str) -> None:
    """Each role exists once with its defined trust and statements, and has no other permissions."""
    settings = SETTINGS[stage]
    written: dict[str, dict[str, Any]] = {}
    for stack in STACKS:
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            assert templates.found(stage, stack, kind) == {}
        for name, role in roles_of(templates, stage, stack).items():
            assert name not in written
            assert "ManagedPolicyArns" not in role
            written[name] = role
    sources = stage_source_statements(settings, provisioned_models(EXAMPLE))
    deployments = [settings.deployment(region.name) for region in settings.regions]
    defined = {role.name: role for each in deployments for role in role_definitions.all_roles(each, sources)}
    away = role_definitions.all_roles(deployments[0], sources)
    defined |= {role.name: role for role in away if role.name in defined}
    assert set(written) - {settings.deployment().snowflake_access_role} == set(defined)
    for name, role in defined.items():
        assert written[name]["AssumeRolePolicyDocument"] == role.trust_policy()
        (policy,) = written[name]["Policies"]
        statements = policy["PolicyDocument"]["Statement"]
        further = statements[len(role.statements) :]
        assert statements[: len(role.statements)] == list(role.statements)
        # The load job's code is uploaded with its stack, so its role gets two more statements.
        code = ["ReadJobCode", "FindJobCode"] if "glue-load" in name else []
        assert [each["Sid"] for each in further] == code


@pytest.mark.parametrize("stage", STAGES)
def test_roles_are_passed_to_one_service_only(templates: Templates, stage: str) -> None:
    """Only the expected roles may pass roles, each to one service, which the emulator does not check."""
    deployment = SETTINGS[stage].deployment()
    passed = {}
    for stack in STACKS:
        for name, role in roles_of(templates, stage, stack).items():
            for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
                if "iam:PassRole" in statement["Action"]:
                    passed[name] = (statement["Resource"], statement["Condition"])
    assert passed == {
        deployment.dagster_run_role: (
            [deployment.role_arn(deployment.sagemaker_role)],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        # The jobs of a pipeline have the role of all SageMaker jobs.
        deployment.scoring_pipeline_role: (
            [deployment.role_arn(deployment.sagemaker_role)],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        deployment.retraining_pipeline_role: (
            [deployment.role_arn(deployment.sagemaker_role)],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        deployment.dagster_daemon_role: (
            [
                deployment.role_arn(deployment.dagster_run_role),
                deployment.role_arn(deployment.dagster_execution_role),
            ],
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_snowflake_reads_only_predictions(templates: Templates, stage: str) -> None:
    """Snowflake's role trusts one user with an external id, and names no other prefix."""
    deployment = SETTINGS[stage].deployment()
    role = roles_of(templates, stage, "data")[deployment.snowflake_access_role]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"]["StringEquals"]["sts:ExternalId"]
    assert trust["Principal"]["AWS"].startswith("arn:aws:iam::")
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statements == list(platform_roles.snowflake_statements(deployment))
    objects = [text for each in statements for text in each["Resource"] if ":s3:::" in text and "/" in text]
    assert set(objects) == {f"{deployment.data_bucket_arn}/predictions/*"}
