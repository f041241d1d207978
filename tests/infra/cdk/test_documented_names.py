"""What the runbook and the deployment's steps name is what the templates of `prod` hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.cdk.synthesis import ROOT
from tests.infra.cdk.templates import HOME, STACKS, strings
from tests.infra.example_stages import PROD

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

STAGE = "prod"
DOCUMENTS = ("operations.md", "recovery.md", "deployment.md")
_NAME = re.compile(r"mlpipe-prod-[a-z0-9_-]*[a-z0-9]")
# What a person makes: a provider's secret, and a table that is restored.
_BY_HAND = {"mlpipe-prod-providers", "mlpipe-prod-registry-restored"}
_PATTERNS = {
    "mlpipe-prod-pointer-age",
    "mlpipe-prod-undelivered",
    "mlpipe-prod-api-throttled-predictions",
}


@pytest.fixture(scope="module", params=DOCUMENTS)
def text(request: pytest.FixtureRequest) -> str:
    """A document."""
    return (ROOT / "docs" / request.param).read_text(encoding="utf-8")


def test_every_resource_that_is_named_exists(templates: Templates, text: str) -> None:
    """Stacks, tables, secrets, repositories, services, task families and alarms have these names."""
    known = {f"mlpipe-{STAGE}-{stack}" for stack in STACKS} | _BY_HAND
    for stack in STACKS:
        known |= {
            name for value in strings(templates.template(STAGE, stack)) for name in _NAME.findall(value)
        }
    named = set(_NAME.findall(text))
    assert named
    assert {each for each in named - known if each not in _PATTERNS} == set()


def test_what_commands_ask_stacks_for_is_there(templates: Templates) -> None:
    """Logical ids, parameters and outputs stand in the templates, and services are called as told."""
    orchestration, data = (templates.template(STAGE, stack) for stack in ("orchestration", "data"))
    for document in DOCUMENTS:
        text = (ROOT / "docs" / document).read_text(encoding="utf-8")
        for logical_id in re.findall(r"--logical-resource-id\s+(\w+)", text):
            holders = [each for each in STACKS if logical_id in templates.template(STAGE, each)["Resources"]]
            assert holders, logical_id
        for parameter in re.findall(r"mlpipe-prod-orchestration:(\w+)=", text):
            assert parameter in orchestration["Parameters"]
        for output in re.findall(r"`(Token\w+Id)`", text):
            assert output in data["Outputs"]
        for service in re.findall(r"--services? ([a-z]+)", text):
            services = templates.properties(STAGE, "orchestration", "AWS::ECS::Service")
            assert service in {each["ServiceName"] for each in services}


def test_the_addresses_that_are_asked_are_the_stages(templates: Templates, text: str) -> None:
    """Regional names and that of Dagster's page are records."""
    records = {
        each["Name"]
        for stack in (f"api-{HOME}", "api-us-west-2", "orchestration")
        for each in templates.properties(STAGE, stack, "AWS::Route53::RecordSet")
    }
    asked = set(re.findall(rf"https://([a-z0-9.-]*{re.escape(PROD.domain.api_name)})", text))
    assert asked - records == set()


def test_every_alarm_is_explained(templates: Templates) -> None:
    """Whoever gets a mail finds the alarm in the runbook; the runbook names no alarm that is gone."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("\n## Alarms\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    patterns = {
        re.compile(re.sub("<[a-z]+>", "[a-z0-9_-]+", name))
        for cell in cells
        for name in re.findall("`([^`]+)`", cell)
    }
    alarms = {
        each["AlarmName"]
        for stack in STACKS
        for each in templates.properties(STAGE, stack, "AWS::CloudWatch::Alarm")
    }
    assert alarms
    assert [name for name in alarms if not any(each.fullmatch(name) for each in patterns)] == []
    assert [each.pattern for each in patterns if not any(map(each.fullmatch, alarms))] == []
