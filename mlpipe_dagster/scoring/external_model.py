"""A model that SageMaker scores without Dagster: its assets, and the events recorded at each load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_metadata import (
    COLUMN_LINEAGE,
    asset_attributes,
    column_lineage,
)
from mlpipe_dagster.pipeline.asset_names import FEATURES, PREDICTIONS, asset_key
from mlpipe_dagster.scoring.features_asset import (
    features_description,
    features_kinds,
    features_links,
)
from mlpipe_dagster.scoring.predictions_asset import (
    PREDICTIONS_KINDS,
    manifest_metadata,
    predictions_deps,
    predictions_facts,
)
from mlpipe_dagster.scoring.source_assets import source_deps
from mlpipe_dagster.scoring.trained_elsewhere import record_model_file

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.manifests.manifest import Manifest


def external_specs(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetSpec]:
    """Return the assets that SageMaker makes without Dagster, with partitions and lineage."""
    model = declaration.name
    return [
        dg.AssetSpec(
            asset_key(model, FEATURES),
            deps=source_deps(declaration),
            partitions_def=partitions,
            kinds=features_kinds(declaration),
            description=features_description(declaration),
            metadata=features_links(declaration),
            **asset_attributes(declaration),
        ),
        dg.AssetSpec(
            asset_key(model, PREDICTIONS),
            deps=predictions_deps(declaration),
            partitions_def=partitions,
            kinds=PREDICTIONS_KINDS,
            description=declaration.description,
            metadata=predictions_facts(declaration),
            **asset_attributes(declaration),
        ),
    ]


def record_external_predictions(
    context: dg.AssetExecutionContext, declaration: ModelDeclaration, manifest: Manifest
) -> None:
    """Record the manifest of a batch that Dagster did not score, once per batch."""
    record_model_file(context, declaration)
    for event in external_events(declaration, manifest):
        if not _is_recorded(context.instance, event):
            context.log_event(event)


def external_events(declaration: ModelDeclaration, manifest: Manifest) -> list[dg.AssetMaterialization]:
    """Return materializations of the features and predictions in a manifest."""
    model, partition = declaration.name, manifest.partition.dagster_key
    found: dict[str, dict[str, Any]] = {}
    if manifest.inputs.features:
        keys = [source.key for source in manifest.inputs.features]
        found[FEATURES] = {"batch_id": str(manifest.batch_id), "keys": dg.MetadataValue.json(keys)}
    found[PREDICTIONS] = {
        **manifest_metadata(manifest),
        "producer": manifest.producer.job_name or "unknown",
        COLUMN_LINEAGE: column_lineage(declaration, PREDICTIONS),
    }
    return [
        dg.AssetMaterialization(asset_key(model, asset), partition=partition, metadata=metadata)
        for asset, metadata in found.items()
    ]


def _is_recorded(instance: dg.DagsterInstance, event: dg.AssetMaterialization) -> bool:
    """Return whether the partition's latest materialization is of the same batch."""
    latest = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=event.asset_key, asset_partitions=[str(event.partition)]), limit=1
    )
    known = latest.records[0].asset_materialization if latest.records else None
    return known is not None and known.metadata.get("batch_id") == event.metadata["batch_id"]
