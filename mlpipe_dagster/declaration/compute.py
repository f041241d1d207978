"""The machines of a model's SageMaker jobs."""

from __future__ import annotations

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel


class Compute(DeclaredModel):
    """The machine of one kind of SageMaker job, and how long a job may take."""

    instance_type: str = "ml.m5.xlarge"
    volume_gb: int = Field(default=30, ge=1, le=16_384)
    max_runtime_seconds: int = Field(default=3600, ge=60, le=432_000)
