"""Fixtures of synthesised templates."""

from tests.infra.cdk.synthesis import scored_by_sagemaker, templates

__all__ = ["scored_by_sagemaker", "templates"]
