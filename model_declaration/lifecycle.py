"""How a model's batches are made, loaded, published and kept: machines, limits and terms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model_declaration.validation import DeclarationPart
from prediction_contract.jobs.job_arguments import MAX_WAIT_MINUTES

PublicationMode = Literal["auto", "manual", "shadow"]


class Compute(DeclarationPart):
    """The machine of one kind of SageMaker job, and how long a job may take."""

    instance_type: str = "ml.m5.xlarge"
    volume_gb: int = Field(default=30, ge=1, le=16_384)
    max_runtime_seconds: int = Field(default=3600, ge=60, le=432_000)


class ProcessingCompute(Compute):
    """The machines of feature and score jobs.

    Attributes:
        instances: How many a score job divides a batch over; a feature job has one.
    """

    instances: int = Field(default=1, ge=1, le=20)


class Scoring(DeclarationPart):
    """How `predict` is called.

    Attributes:
        chunk_rows: Rows of features per call; left out, the score job decides by the width of a row.
        whole: Whether it is called once with all rows of the partition and of the previous batch.
    """

    chunk_rows: int | None = Field(default=None, ge=100, le=1_000_000)
    whole: bool = False


class Loading(DeclarationPart):
    """What a load may take.

    Attributes:
        max_write_units_per_second: Of DynamoDB, by the whole job; None for as many as the table bears.
        wait_minutes: How long after its done file was put the files of a batch may arrive, before the batch
            is refused for what is missing.
    """

    max_write_units_per_second: int | None = Field(default=None, ge=1)
    wait_minutes: int = Field(default=10, ge=0, le=MAX_WAIT_MINUTES)


class DeclaredPublication(DeclarationPart):
    """How a model's batches become live.

    Attributes:
        mode: `auto`: the pipeline, once the batch is verified and its checks let it pass; `manual`: a person,
            and the pipeline loads and verifies; `shadow`: nobody, batches are loaded, verified and compared,
            and no reader ever sees them.
        due_hours: How long after its end a partition must have a verified batch; no promise if left out.
    """

    mode: PublicationMode = "auto"
    due_hours: float | None = Field(default=None, gt=0)


class Retention(DeclarationPart):
    """How long things live.

    Attributes:
        items_days: Items of the online table, from their load on.
        minimum_life_hours: What a batch must have left to become live.
        superseded_days: A batch after it stopped being live.
    """

    items_days: int = Field(default=90, ge=2)
    minimum_life_hours: int = Field(default=24, ge=1)
    superseded_days: int = Field(default=30, ge=1)
