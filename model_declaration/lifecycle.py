"""How a model's batches are scored, loaded, published and kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model_declaration.validation import DeclarationPart
from prediction_contract.jobs.job_arguments import MAX_WAIT_MINUTES

PublicationMode = Literal["auto", "manual", "shadow"]


class Compute(DeclarationPart):
    """The machine of one kind of SageMaker job, and the job's time limit."""

    instance_type: str = "ml.m5.xlarge"
    volume_gb: int = Field(default=30, ge=1, le=16_384)
    max_runtime_seconds: int = Field(default=3600, ge=60, le=432_000)


class ProcessingCompute(Compute):
    """The machines of feature and score jobs.

    Attributes:
        instances: How many instances share a batch in a score job; feature jobs have one.
    """

    instances: int = Field(default=1, ge=1, le=20)


class Scoring(DeclarationPart):
    """How `predict` is called.

    Attributes:
        chunk_rows: Feature rows per call; by default the score job derives it from the row width.
        whole: Whether it is called once with all rows of the partition and of the previous batch.
    """

    chunk_rows: int | None = Field(default=None, ge=100, le=1_000_000)
    whole: bool = False


class Loading(DeclarationPart):
    """The limits of a load.

    Attributes:
        max_write_units_per_second: The most DynamoDB write units that the whole job consumes; None for no
            limit.
        wait_minutes: How long after the done file a batch's files may arrive; then the batch is refused if
            one is missing.
    """

    max_write_units_per_second: int | None = Field(default=None, ge=1)
    wait_minutes: int = Field(default=10, ge=0, le=MAX_WAIT_MINUTES)


class DeclaredPublication(DeclarationPart):
    """How a model's batches become live.

    Attributes:
        mode: `auto`: the pipeline publishes once the batch is verified and its checks pass. `manual`: a
            person publishes. `shadow`: nobody does; batches are only loaded, verified and compared.
        due_hours: How many hours after a partition's end it must have a verified batch; by default no check.
    """

    mode: PublicationMode = "auto"
    due_hours: float | None = Field(default=None, gt=0)


class Retention(DeclarationPart):
    """How long items and batches are kept.

    Attributes:
        items_days: The days that items of the online table live after their load.
        minimum_life_hours: The hours that a batch's items must still live when it is published.
        superseded_days: The days that a batch is kept after it stopped being live.
    """

    items_days: int = Field(default=90, ge=2)
    minimum_life_hours: int = Field(default=24, ge=1)
    superseded_days: int = Field(default=30, ge=1)
