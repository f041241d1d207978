"""Dagster metadata of a model's assets: tags, columns with lineage, and links to the code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import (
    DYNAMODB,
    FEATURES,
    MODEL_TAG,
    PREDICTIONS,
    SNOWFLAKE,
    asset_key,
)
from model_declaration.declaration import ModelDeclaration
from model_declaration.declared_models import FILE_NAME
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.errors import ContractError
from prediction_contract.stores.online_item import KEY_ATTRIBUTE

COLUMN_LINEAGE = "dagster/column_lineage"
DATA_VERSION = "dagster/data_version"


def asset_attributes(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return the group, owners and tags of a model's assets as keyword arguments."""
    return {
        "group_name": declaration.asset_group,
        "owners": declaration.owners,
        "tags": {MODEL_TAG: declaration.name, **declaration.tags},
    }


def code_links(declaration: ModelDeclaration, *functions: str) -> dict[str, Any]:
    """Return metadata with links to the model's `defs.yaml` and to the functions that make the asset.

    Args:
        declaration: The model's declaration.
        functions: Any of `features`, `outcomes`, `train` and `predict`; those that the model lacks are
            skipped.
    """
    if declaration.folder is None:
        return {}
    links = []
    declared = declaration.folder / FILE_NAME
    if declared.is_file():
        links.append(dg.LocalFileCodeReference(file_path=str(declared), line_number=1, label="declaration"))
    for function in functions:
        module = declaration.folder / f"{function}.py"
        if module.is_file():
            line = _line_of(module, function)
            links.append(dg.LocalFileCodeReference(file_path=str(module), line_number=line, label=function))
    if not links:
        return {}
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=links)}


def _line_of(module: Path, function: str) -> int:
    lines = module.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"def {function}(")), 1)


def column_schema(declaration: ModelDeclaration, asset: str = PREDICTIONS) -> dg.TableSchema:
    """Return an asset's columns for Dagster, named as declared or as in the asset's store."""
    schema, cleaning = declaration.prediction_schema, declaration.cleaning_rules
    declared = {column.name: column.description for column in declaration.columns}
    columns = (NO_CLEANING if asset == PREDICTIONS else cleaning).columns(schema)
    done = {rule.column: rule.in_words for rule in cleaning.rules} if asset != PREDICTIONS else {}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                stored_name(asset, column.stored.name, is_key=column.source.name == schema.key),
                str(column.stored.type),
                description="; ".join(
                    text for text in (declared[column.source.name], done.get(column.source.name)) if text
                )
                or None,
                constraints=_constraints(
                    nullable=column.stored.nullable, unique=column.source.name == schema.key
                ),
            )
            for column in columns
        ]
    )


@cache
def _constraints(*, nullable: bool, unique: bool) -> dg.TableColumnConstraints:
    return dg.TableColumnConstraints(nullable=nullable, unique=unique)


def column_lineage(declaration: ModelDeclaration, asset: str) -> dg.TableColumnLineage:
    """Return the source columns of each column of an asset.

    Args:
        declaration: The model's declaration.
        asset: `predictions`, whose columns come from features as declared; `dynamodb` or `snowflake`, where
            each column comes from one of the predictions.
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
    """Return the source columns of each column of one batch in a store.

    Args:
        declaration: The model's declaration.
        asset: `dynamodb` or `snowflake`.
        kept: The rules with which the batch was first loaded; the declared ones may have changed since.
    """
    try:
        return stored_lineage(declaration, asset, kept)
    except ContractError:
        # The rules name a column that the model no longer has.
        return column_lineage(declaration, asset)


def stored_lineage(declaration: ModelDeclaration, asset: str, cleaning: Cleaning) -> dg.TableColumnLineage:
    """Return the source column of each column in a store; includes renamed columns, omits dropped ones.

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
    """Return the name of a predictions column in a store."""
    if store == DYNAMODB and is_key:
        return KEY_ATTRIBUTE
    return column.upper() if store == SNOWFLAKE else column
