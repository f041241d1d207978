"""Column lineage: features -> prediction columns -> cleaned item attributes and table columns."""

from __future__ import annotations

import dagster as dg

from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.pipeline.asset_names import DYNAMODB, FEATURES, PREDICTIONS, SNOWFLAKE, asset_key
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.errors import ContractError
from prediction_contract.stores.online_item import KEY_ATTRIBUTE

COLUMN_LINEAGE = "dagster/column_lineage"


def column_lineage(declaration: ModelDeclaration, asset: str) -> dg.TableColumnLineage:
    """Return from which columns those of an asset come.

    Args:
        declaration: The model's.
        asset: `predictions`, whose columns come from the declared ones of the features; `dynamodb` or
            `snowflake`, where each column is one of the predictions, spelt as that store spells it.
    """
    if asset == PREDICTIONS:
        features = asset_key(declaration.name, FEATURES)
        return dg.TableColumnLineage(
            {
                column.name: [dg.TableColumnDep(features, source) for source in column.derived_from]
                for column in declaration.columns
                if column.derived_from
            }
        )
    return stored_lineage(declaration, asset, declaration.cleaning_rules)


def batch_lineage(declaration: ModelDeclaration, asset: str, kept: Cleaning) -> dg.TableColumnLineage:
    """Return from which columns those of one batch come, in a store.

    Args:
        declaration: The model's.
        asset: `dynamodb` or `snowflake`.
        kept: The rules that the batch was first loaded with; the model may declare others by now.
    """
    try:
        return stored_lineage(declaration, asset, kept)
    except ContractError:
        # The model has lost a column since that they speak of.
        return column_lineage(declaration, asset)


def stored_lineage(declaration: ModelDeclaration, asset: str, cleaning: Cleaning) -> dg.TableColumnLineage:
    """Return from which columns those of a store come: renamed ones from theirs, dropped ones to none.

    Raises:
        InvalidCleaningError: The rules do not fit the declared columns.
    """
    predictions = asset_key(declaration.name, PREDICTIONS)
    key = declaration.prediction_schema.key
    return dg.TableColumnLineage(
        {
            stored_name(asset, column.stored.name, is_key=column.source.name == key): [
                dg.TableColumnDep(predictions, column.source.name)
            ]
            for column in cleaning.columns(declaration.prediction_schema)
        }
    )


def stored_name(store: str, column: str, *, is_key: bool) -> str:
    """Return how an asset calls a column of the predictions."""
    if store == DYNAMODB and is_key:
        return KEY_ATTRIBUTE
    return column.upper() if store == SNOWFLAKE else column
