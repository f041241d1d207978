"""How a model's batches become live."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel

PublicationMode = Literal["auto", "manual", "shadow"]


class DeclaredPublication(DeclaredModel):
    """How a model's batches become live.

    Attributes:
        mode: `auto`: the pipeline, once the batch is verified and its checks let it pass; `manual`: a person,
            and the pipeline loads and verifies; `shadow`: nobody, batches are loaded, verified and compared,
            and no reader ever sees them.
        due_hours: How long after its end a partition must have a verified batch; no promise if left out.
    """

    mode: PublicationMode = "auto"
    due_hours: Annotated[float, Field(gt=0)] | None = None
