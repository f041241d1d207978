"""Removes resources from templates that the emulator cannot deploy, and changes nothing else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Types that ministack 1.5.33 refuses.
UNSUPPORTED = frozenset(
    {
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::Budgets::Budget",
        "AWS::CodeDeploy::Application",
        "AWS::CodeDeploy::DeploymentGroup",
        "AWS::EC2::EIP",
        "AWS::EC2::FlowLog",
        "AWS::EC2::NatGateway",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::Route53::HealthCheck",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SageMaker::Pipeline",
        "AWS::WAFv2::LoggingConfiguration",
        "AWS::WAFv2::WebACLAssociation",
    }
)
# An action of the load balancer for which the emulator answers 502. The function also checks tokens itself.
_UNSUPPORTED_ACTION = "jwt-validation"


def remove_unsupported_resources(folder: Path) -> dict[str, dict[str, int]]:
    """Change every template of a synthesised app; return counts of removed resources by template and type.

    Args:
        folder: The folder of the assembly.
    """
    found = {}
    for path in sorted(folder.glob("*.template.json")):
        template, left_out = without_unsupported(json.loads(path.read_text()))
        if left_out:
            path.write_text(json.dumps(template, indent=1))
            _name_by_content(folder, path)
            found[path.name.removesuffix(".template.json")] = left_out
    return found


def _name_by_content(folder: Path, template: Path) -> None:
    """Rename a changed template, because the CDK does not upload a known name again."""
    assets = template.with_name(template.name.replace(".template.json", ".assets.json"))
    files = json.loads(assets.read_text())["files"]
    (old,) = [digest for digest, each in files.items() if each["source"]["path"] == template.name]
    new = hashlib.sha256(template.read_bytes()).hexdigest()
    for path in (assets, folder / "manifest.json"):
        path.write_text(path.read_text().replace(old, new))


def without_unsupported(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a template without unsupported resources and those that refer to them, and counts by type."""
    resources = dict(template.get("Resources", {}))
    gone = {name for name, each in resources.items() if each["Type"] in UNSUPPORTED}
    while followers := _referring(resources, gone):
        gone |= followers
    kept = {name: _cleared(each, gone) for name, each in resources.items() if name not in gone}
    outputs = {
        name: each for name, each in template.get("Outputs", {}).items() if gone.isdisjoint(_references(each))
    }
    left_out = Counter(resources[name]["Type"] for name in gone)
    changed = {**template, "Resources": kept}
    if outputs:
        changed["Outputs"] = outputs
    return changed, dict(sorted(left_out.items()))


def _referring(resources: Mapping[str, Any], gone: set[str]) -> set[str]:
    """Return the resources that need one of the removed resources."""
    return {
        name
        for name, each in resources.items()
        if name not in gone and not gone.isdisjoint(_references(each.get("Properties", {})))
    }


def _references(document: Any) -> Iterator[str]:
    if isinstance(document, list):
        for each in document:
            yield from _references(each)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key == "Ref":
                yield str(value)
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else str(value).partition(".")[0]
            else:
                yield from _references(value)


def _cleared(resource: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    """Return a resource without dependencies on removed resources and without unsupported actions."""
    cleared = dict(resource)
    waits = cleared.pop("DependsOn", [])
    left = [name for name in ([waits] if isinstance(waits, str) else waits) if name not in gone]
    if left:
        cleared["DependsOn"] = left
    if not gone.isdisjoint(_references(cleared.get("UpdatePolicy", {}))):
        del cleared["UpdatePolicy"]
    actions = cleared.get("Properties", {}).get("Actions")
    if resource["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule" and actions:
        supported = [action for action in actions if action["Type"] != _UNSUPPORTED_ACTION]
        cleared["Properties"] = {**cleared["Properties"], "Actions": supported}
    return cleared
