"""The decorator for assets that every model has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import op_name


def model_asset(
    *,
    key: dg.AssetKey,
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    description: str,
    kinds: set[str],
    group_name: str,
    owners: Sequence[str],
    tags: Mapping[str, str],
    metadata: Mapping[str, Any],
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
    skippable: bool = False,
    check_specs: Sequence[dg.AssetCheckSpec] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return a decorator like `dg.asset` for an asset of every model; the op is named by `op_name`."""
    spec = dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        kinds=kinds,
        group_name=group_name,
        owners=owners,
        tags=tags,
        metadata=metadata,
        partitions_def=partitions_def,
        skippable=skippable,
    )
    return dg.multi_asset(
        name=op_name(*key.path),
        specs=[spec],
        check_specs=check_specs,
        backfill_policy=backfill_policy,
        retry_policy=retry_policy,
        pool=pool,
    )
