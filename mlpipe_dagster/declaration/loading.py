"""How a model's batches are loaded into its stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel

# Of a field that may be null as well, Dagster's own model of it would compare null.
WriteUnits = Annotated[int, Field(ge=1)]


class Loading(DeclaredModel):
    """What a load may take.

    Attributes:
        max_write_units_per_second: Of DynamoDB, by the whole job; None for as many as the table bears.
    """

    max_write_units_per_second: WriteUnits | None = None
