"""The sources of features as Dagster assets, made by another asset or external."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import asset_key
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs.sources import DeclaredSource

SOURCES_GROUP = "sources"
# The metadata key of a dependency that describes its source and the reading model.
_SOURCE = "mlpipe/source"
_KINDS = {
    "parquet": {"s3", "parquet"},
    "csv": {"s3", "csv"},
    "jsonl": {"s3", "json"},
    "delta": {"s3", "deltalake"},
    "snowflake": {"snowflake"},
    "reader": {"python"},
}


def source_key(model: str, name: str, source: DeclaredSource) -> dg.AssetKey:
    """Return the key of a source's asset: the declared one, the folder of its path, or the source's name.

    If the source declares a bucket, the bucket comes before the folder, as two buckets may have equal
    folders.
    """
    if source.asset is not None:
        return dg.AssetKey(source.asset.split("/"))
    source_input = source.as_input(name)
    if source_input.beginning:
        return dg.AssetKey(
            [*([source_input.bucket] if source_input.bucket else []), *source_input.beginning.split("/")]
        )
    return asset_key(model, name)


def source_deps(declaration: ModelDeclaration) -> list[dg.AssetDep]:
    """Return the sources of a model's features as dependencies, each key once."""
    found: dict[dg.AssetKey, dict[str, Any]] = {}
    for name, source in declaration.sources.items():
        found.setdefault(source_key(declaration.name, name, source), _facts(declaration, source))
    return [dg.AssetDep(key, metadata={_SOURCE: facts}) for key, facts in found.items()]


def _facts(declaration: ModelDeclaration, source: DeclaredSource) -> dict[str, Any]:
    source_input = source.as_input("any")
    facts = {
        "format": source_input.format,
        "path": source_input.path,
        "bucket": source_input.bucket,
        "reader": source_input.reader,
        "query": source_input.query,
        "model": declaration.name,
    }
    return {name: value for name, value in facts.items() if value}


def source_specs(assets: Iterable[Any]) -> list[dg.AssetSpec]:
    """Return an external asset for each source that no asset of the code location makes.

    Args:
        assets: All assets of the code location; several models may read one source.
    """
    specs = [spec for each in assets for spec in _specs(each)]
    defined = {spec.key for spec in specs}
    found: dict[dg.AssetKey, list[dict[str, Any]]] = {}
    for dep in (dep for spec in specs for dep in spec.deps):
        if _SOURCE in dep.metadata and dep.asset_key not in defined:
            found.setdefault(dep.asset_key, []).append(dict(dep.metadata[_SOURCE]))
    return [_external(key, facts) for key, facts in found.items()]


def _specs(assets: Any) -> Iterable[dg.AssetSpec]:
    if isinstance(assets, dg.AssetSpec):
        return [assets]
    return assets.specs if isinstance(assets, dg.AssetsDefinition) else []


def _external(key: dg.AssetKey, facts: list[dict[str, Any]]) -> dg.AssetSpec:
    models = sorted({each["model"] for each in facts})
    shown = {name: value for name, value in facts[0].items() if name != "model"}
    kinds = _KINDS[shown["format"]] | ({"s3"} if "path" in shown else set())
    return dg.AssetSpec(
        key,
        description=f"A source of the features of {', '.join(models)}, produced outside this code location.",
        kinds=kinds,
        group_name=SOURCES_GROUP,
        metadata=shown,
    )
