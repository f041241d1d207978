"""Tests that only what the emulator lacks, and what depends on it, is removed from templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from infra.local.cdk.emulator_templates import remove_unsupported_resources, without_unsupported

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY = {"Type": "AWS::EC2::NatGateway", "Properties": {}}
ROUTE = {"Type": "AWS::EC2::Route", "Properties": {"NatGatewayId": {"Ref": "Gateway"}}}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "q"}, "DependsOn": ["Gateway", "Topic"]}
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::GetAtt": ["Queue", "Arn"]}}}


def test_resources_that_refer_to_removed_ones_are_removed() -> None:
    """A route without its gateway is removed; a queue that only waited for the gateway is kept."""
    template = {
        "Resources": {"Gateway": GATEWAY, "Route": ROUTE, "Queue": QUEUE, "Topic": TOPIC},
        "Outputs": {"Out": {"Value": {"Ref": "Route"}}, "Queue": {"Value": {"Ref": "Queue"}}},
    }
    left, gone = without_unsupported(template)
    assert set(left["Resources"]) == {"Queue", "Topic"}
    assert left["Resources"]["Queue"]["DependsOn"] == ["Topic"]
    assert left["Resources"]["Topic"] == TOPIC
    assert set(left["Outputs"]) == {"Queue"}
    assert gone == {"AWS::EC2::NatGateway": 1, "AWS::EC2::Route": 1}


def test_token_check_is_removed_from_listener_rules() -> None:
    """A listener rule still forwards without its token check, and an alias loses its update policy."""
    actions = [{"Type": "jwt-validation", "Order": 1}, {"Type": "forward", "Order": 2}]
    alias = {
        "Type": "AWS::Lambda::Alias",
        "Properties": {},
        "UpdatePolicy": {"CodeDeployLambdaAliasUpdate": {"ApplicationName": {"Ref": "App"}}},
    }
    rule = {"Type": "AWS::ElasticLoadBalancingV2::ListenerRule", "Properties": {"Actions": actions}}
    app = {"Type": "AWS::CodeDeploy::Application", "Properties": {}}
    left, _ = without_unsupported({"Resources": {"Rule": rule, "Alias": alias, "App": app}})
    assert left["Resources"]["Rule"]["Properties"]["Actions"] == actions[1:]
    assert "UpdatePolicy" not in left["Resources"]["Alias"]


def test_changed_template_gets_a_new_digest(tmp_path: Path) -> None:
    """A changed template gets a new digest, because the CDK would not upload it under the old one."""
    old = "0" * 64
    for name, content in {
        "a.template.json": {"Resources": {"Gateway": GATEWAY, "Queue": QUEUE}},
        "a.assets.json": {"files": {old: {"source": {"path": "a.template.json"}, "key": f"{old}.json"}}},
        "b.template.json": {"Resources": {"Topic": TOPIC}},
        "manifest.json": {"url": f"s3://bucket/{old}.json"},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    before = (tmp_path / "b.template.json").read_text()
    assert remove_unsupported_resources(tmp_path) == {"a": {"AWS::EC2::NatGateway": 1}}
    (new,) = json.loads((tmp_path / "a.assets.json").read_text())["files"]
    assert new != old
    assert (tmp_path / "manifest.json").read_text() == json.dumps({"url": f"s3://bucket/{new}.json"})
    assert (tmp_path / "b.template.json").read_text() == before
