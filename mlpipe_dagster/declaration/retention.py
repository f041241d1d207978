"""How long a model's batches are kept."""

from __future__ import annotations

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel


class Retention(DeclaredModel):
    """How long things live.

    Attributes:
        items_days: Items of the online table, from their load on.
        minimum_life_hours: What a batch must have left to become live.
        superseded_days: A batch after it stopped being live.
    """

    items_days: int = Field(default=90, ge=2)
    minimum_life_hours: int = Field(default=24, ge=1)
    superseded_days: int = Field(default=30, ge=1)
