"""The external asset of a model that was trained elsewhere; its data version is the file's digest."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_metadata import DATA_VERSION, asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.library_kinds import library_kind
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs.origins import ModelFile


def trained_elsewhere_spec(declaration: ModelDeclaration, file: ModelFile) -> dg.AssetSpec:
    """Return the asset of a model that was trained elsewhere, from the file in its declaration."""
    model = declaration.name
    return dg.AssetSpec(
        asset_key(model, TRAINED_MODEL),
        kinds={"s3", library_kind(declaration)},
        description="The model's file, trained outside Dagster.",
        metadata={**_facts(file), **code_links(declaration)},
        **asset_attributes(declaration),
    )


def _facts(file: ModelFile) -> dict[str, Any]:
    facts = {"path": file.path, "bucket": file.bucket, "sha256": file.sha256, "codec": file.codec}
    return {name: value for name, value in facts.items() if value is not None}


def record_model_file(context: dg.AssetExecutionContext, declaration: ModelDeclaration) -> None:
    """Record the model's file once per digest, before any of its results is recorded."""
    file = declaration.model_file
    if file is None:
        return
    key = asset_key(declaration.name, TRAINED_MODEL)
    latest = context.instance.get_latest_materialization_event(key)
    known = latest.asset_materialization if latest else None
    if known is None or (known.tags or {}).get(DATA_VERSION) != file.sha256:
        context.log_event(
            dg.AssetMaterialization(key, metadata=_facts(file), tags={DATA_VERSION: file.sha256})
        )
