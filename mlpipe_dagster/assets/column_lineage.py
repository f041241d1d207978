"""Column lineage: features -> prediction columns -> item attributes and table columns."""

from __future__ import annotations

import dagster as dg

from mlpipe_dagster.asset_names import DYNAMODB, FEATURES, PREDICTIONS, SNOWFLAKE, asset_key
from mlpipe_dagster.declaration import ModelDeclaration
from prediction_contract.online_item import KEY_ATTRIBUTE

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
    predictions = asset_key(declaration.name, PREDICTIONS)
    return dg.TableColumnLineage(
        {
            stored_name(asset, column.name, is_key=column.key): [dg.TableColumnDep(predictions, column.name)]
            for column in declaration.columns
        }
    )


def stored_name(store: str, column: str, *, is_key: bool) -> str:
    """Return how an asset calls a column of the predictions."""
    if store == DYNAMODB and is_key:
        return KEY_ATTRIBUTE
    return column.upper() if store == SNOWFLAKE else column
