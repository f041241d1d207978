"""How a model's batches are loaded into its stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel
from prediction_contract.jobs.job_arguments import MAX_WAIT_MINUTES

# Of a field that may be null as well, Dagster's own model of it would compare null.
WriteUnits = Annotated[int, Field(ge=1)]


class Loading(DeclaredModel):
    """What a load may take.

    Attributes:
        max_write_units_per_second: Of DynamoDB, by the whole job; None for as many as the table bears.
        wait_minutes: How long after its done file was put the files of a batch may arrive, before the batch
            is refused for what is missing.
    """

    max_write_units_per_second: WriteUnits | None = None
    wait_minutes: int = Field(default=10, ge=0, le=MAX_WAIT_MINUTES)
