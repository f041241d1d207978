"""The columns of a model's predictions."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mlpipe_dagster.declaration.values import DeclaredModel
from prediction_contract.errors import ContractError
from prediction_contract.rows.schema import ColumnType


def _column_type(value: str) -> str:
    if value.startswith("decimal(") and ")" not in value:
        # In braces, YAML takes the comma for the end of the value.
        raise ValueError(f'{value} is cut off at its comma. Write the type in quotes: "decimal(10,2)"')
    try:
        ColumnType.parse(value)
    except ContractError as error:
        raise ValueError(str(error)) from error
    return value


class DeclaredColumn(DeclaredModel):
    """A column of the model's predictions; the key column names the entity.

    Attributes:
        name: As in the contract.
        type: Of the contract's types.
        nullable: Whether a row may have no value.
        key: Whether it names the entity.
        description: For people.
        derived_from: The columns of the features that it is made of, for the lineage of columns.
        sensitive: Whether Dagster shows none of its values: no sample, no picture, no bound of a bin.
    """

    name: str
    type: Annotated[str, AfterValidator(_column_type)]
    nullable: bool = True
    key: bool = False
    description: str = ""
    derived_from: list[str] = Field(default_factory=list)
    sensitive: bool = False
