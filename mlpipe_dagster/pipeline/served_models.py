"""What sensors over all models know of each, without reading a declaration a second time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.pipeline.asset_names import PUBLICATION

_ITEMS_DAYS, _DUE_HOURS, _MODE = "items_days", "due_hours", "publication_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model as sensors see it.

    Attributes:
        name: The model's name.
        partitions: Its partitions.
        items_life: How long items of the online table live.
        due_after: How long after its end a partition must have a batch; None for no promise.
    """

    name: str
    partitions: dg.PartitionsDefinition[str]
    items_life: timedelta
    due_after: timedelta | None = None


def publication_facts(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return what the publication's metadata says of the declaration, for people and for the sensors."""
    facts = {
        _MODE: declaration.publication.mode,
        _ITEMS_DAYS: declaration.retention.items_days,
        _DUE_HOURS: declaration.publication.due_hours,
    }
    return {name: value for name, value in facts.items() if value is not None}


def served_models(definitions: dg.Definitions) -> list[ServedModel]:
    """Return every model whose publication is among the definitions, by name."""
    found = []
    for assets in definitions.assets or ():
        if not isinstance(assets, dg.AssetsDefinition) or len(assets.keys) != 1:
            continue
        model, name = (*assets.key.path, "")[:2]
        if name != PUBLICATION or assets.partitions_def is None:
            continue
        metadata = assets.metadata_by_key[assets.key]
        due = metadata.get(_DUE_HOURS)
        found.append(
            ServedModel(
                name=model,
                partitions=assets.partitions_def,
                items_life=timedelta(days=int(metadata[_ITEMS_DAYS])),
                due_after=None if due is None else timedelta(hours=float(due)),
            )
        )
    return sorted(found, key=lambda each: each.name)
