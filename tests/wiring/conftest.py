"""Fixtures: the CDK templates, shared by tests of stacks and of wiring."""

from tests.infra.cdk.synthesis import scored_by_sagemaker, templates

__all__ = ["scored_by_sagemaker", "templates"]
