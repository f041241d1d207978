"""What Dagster shows of every asset of a model: tags, columns, links to the code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.pipeline.asset_names import MODEL_TAG, PREDICTIONS
from mlpipe_dagster.pipeline.column_lineage import stored_name
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING

PROJECT = Path(__file__).resolve().parents[2]


def asset_tags(declaration: ModelDeclaration) -> dict[str, str]:
    """Return the tags of all assets of a model."""
    return {MODEL_TAG: declaration.name, **declaration.tags}


def code_links(model: str, function: str | None = None) -> dict[str, Any]:
    """Return metadata that leads to the model's `defs.yaml`, and to the function that makes the asset.

    Args:
        model: The model's name.
        function: `features`, `train` or `predict`; None for an asset that no function of the model makes.
    """
    links = []
    declared = PROJECT / "mlpipe_dagster" / "defs" / model / "defs.yaml"
    if declared.is_file():
        links.append(dg.LocalFileCodeReference(file_path=str(declared), line_number=1, label="declaration"))
    if function is not None:
        module = PROJECT / "sagemaker_scripts" / "models" / model / f"{function}.py"
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
    """Return the columns as Dagster shows them: declared, or as the asset's store holds and spells them."""
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
