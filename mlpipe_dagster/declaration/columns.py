"""The columns of a model's predictions."""

from __future__ import annotations

from mlpipe_dagster.declaration.values import DeclaredModel


class DeclaredColumn(DeclaredModel):
    """A column of the model's predictions; the key column names the entity."""

    name: str
    type: str
    nullable: bool = True
    key: bool = False
    description: str = ""
