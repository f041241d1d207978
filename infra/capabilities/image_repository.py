"""Repositories of container images: scanned, with immutable tags, old images expire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT_IMAGES = 50
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
_MOST_RULES = 50


def add_repository(
    stack: cdk.Stack, construct_id: str, name: str, *, families: Sequence[str] | None = None
) -> None:
    """Add a repository.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        name: The repository's name.
        families: The families of its images; a tag begins with its family and a hyphen. Each family keeps its
            own newest images. With None, all images are counted together.
    """
    if families is None:
        selections = [{"tagStatus": "any"}]
    else:
        selections = [
            {"tagStatus": "tagged", "tagPrefixList": [f"{family}-"]} for family in families[:_MOST_RULES]
        ]
    rules = [
        {
            "rulePriority": number,
            "description": "All but the newest images expire",
            "selection": {**each, "countType": "imageCountMoreThan", "countNumber": _KEPT_IMAGES},
            "action": {"type": "expire"},
        }
        for number, each in enumerate(selections, 1)
    ]
    repository = ecr.CfnRepository(
        stack,
        construct_id,
        repository_name=name,
        image_tag_mutability="IMMUTABLE",
        image_scanning_configuration=ecr.CfnRepository.ImageScanningConfigurationProperty(scan_on_push=True),
        encryption_configuration=ecr.CfnRepository.EncryptionConfigurationProperty(encryption_type="AES256"),
        lifecycle_policy=ecr.CfnRepository.LifecyclePolicyProperty(
            lifecycle_policy_text=json.dumps({"rules": rules})
        ),
    )
    repository.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
