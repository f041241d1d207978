"""Repositories of container images: scanned, never overwritten, tidied up."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr

_KEPT_IMAGES = 50


def add_repository(stack: cdk.Stack, construct_id: str, name: str) -> None:
    """Add a repository.

    Args:
        stack: Whose.
        construct_id: Its id in the stack.
        name: The repository's.
    """
    rule = {
        "rulePriority": 1,
        "description": "All but the newest images expire",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": _KEPT_IMAGES},
        "action": {"type": "expire"},
    }
    repository = ecr.CfnRepository(
        stack,
        construct_id,
        repository_name=name,
        image_tag_mutability="IMMUTABLE",
        image_scanning_configuration=ecr.CfnRepository.ImageScanningConfigurationProperty(scan_on_push=True),
        encryption_configuration=ecr.CfnRepository.EncryptionConfigurationProperty(encryption_type="AES256"),
        lifecycle_policy=ecr.CfnRepository.LifecyclePolicyProperty(
            lifecycle_policy_text=json.dumps({"rules": [rule]})
        ),
    )
    repository.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
