"""The templates, which tests of stacks and of wiring share."""

from tests.infra.cdk.synthesis import scored_by_sagemaker, templates

__all__ = ["scored_by_sagemaker", "templates"]
