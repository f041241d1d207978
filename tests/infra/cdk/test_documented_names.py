"""Tests that the resources named in the runbook and the deployment guide are in the templates of `prod`."""

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
# Created by a person: a provider's secret, and a restored table.
_BY_HAND = {"mlpipe-prod-providers", "mlpipe-prod-registry-restored"}
_PATTERNS = {
    "mlpipe-prod-pointer-age",
    "mlpipe-prod-undelivered",
    "mlpipe-prod-api-throttled-predictions",
}


@pytest.fixture(scope="module", params=DOCUMENTS)
def text(request: pytest.FixtureRequest) -> str:
    """Return the text of a document."""
    return (ROOT / "docs" / request.param).read_text(encoding="utf-8")


def test_every_named_resource_exists(templates: Templates, text: str) -> None:
    """Every resource name in a document is in the templates or is created by a person."""
    known = {f"mlpipe-{STAGE}-{stack}" for stack in STACKS} | _BY_HAND
    for stack in STACKS:
        known |= {
            name for value in strings(templates.template(STAGE, stack)) for name in _NAME.findall(value)
        }
    named = set(_NAME.findall(text))
    assert named
    assert {each for each in named - known if each not in _PATTERNS} == set()


def test_documented_commands_match_the_stacks(templates: Templates) -> None:
    """Logical ids, parameters, outputs and services in documented commands are in the templates."""
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


def test_documented_addresses_have_dns_records(templates: Templates) -> None:
    """Every address below the API's domain name in the documents has a DNS record."""
    records = {
        each["Name"]
        for stack in (f"api-{HOME}", "api-us-west-2", "orchestration")
        for each in templates.properties(STAGE, stack, "AWS::Route53::RecordSet")
    }
    texts = [(ROOT / "docs" / document).read_text(encoding="utf-8") for document in DOCUMENTS]
    address = re.compile(rf"https://([a-z0-9.-]*{re.escape(PROD.domain.api_name)})")
    asked = {found for text in texts for found in address.findall(text)}
    assert f"dagster.{PROD.domain.api_name}" in asked
    assert asked - records == set()


def test_every_alarm_is_in_the_runbook(templates: Templates) -> None:
    """The runbook explains every alarm, and no alarm that does not exist."""
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
