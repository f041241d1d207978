"""The ops of models' assets and checks: Dagster makes one of a kind, and every further model repeats it.

All models have the same steps. To make an op, Dagster reads its body's signature some fifteen times and
derives inputs, outputs, resources and config from it, which for 500 models takes most of the time of loading.
What differs between two models is the op's name, the keys of its assets, and the body's closure over the
declaration; only these are made again. The decorators here take what Dagster's own take.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction

from mlpipe_dagster.pipeline.asset_names import op_name

_Body = Callable[..., Any]

# No model is called so.
_ANY_MODEL = "_model"

# By the body's code, and by whatever else of the op depends on the declaration.
_ASSETS: dict[tuple[object, ...], dg.AssetsDefinition] = {}
_CHECKS: dict[tuple[object, ...], dg.AssetChecksDefinition] = {}


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
) -> Callable[[_Body], dg.AssetsDefinition]:
    """Return a decorator as `dg.asset`, for a body that every model has."""
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
    )
    return model_assets(
        name=op_name(*key.path),
        specs=[spec],
        backfill_policy=backfill_policy,
        retry_policy=retry_policy,
        pool=pool,
    )


def model_assets(
    *,
    name: str,
    specs: Sequence[dg.AssetSpec],
    can_subset: bool = False,
    backfill_policy: dg.BackfillPolicy | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
) -> Callable[[_Body], dg.AssetsDefinition]:
    """Return a decorator as `dg.multi_asset`, for a body that every model has."""
    model = specs[0].key.path[0]

    def decorate(body: _Body) -> dg.AssetsDefinition:
        shape = (
            body.__code__,
            *(
                (_path(spec.key, model), *(_path(dep.asset_key, model) for dep in spec.deps))
                for spec in specs
            ),
            (can_subset, retry_policy, pool),
        )
        with _own_warnings_left_out():
            if shape not in _ASSETS:
                options: dict[str, Any] = {
                    "can_subset": can_subset,
                    "retry_policy": retry_policy,
                    "pool": pool,
                }
                kind = [_of_any_model(spec, model) for spec in specs]
                _ASSETS[shape] = dg.multi_asset(name=body.__name__, specs=kind, **options)(body)
            made = _ASSETS[shape]
            return dg.AssetsDefinition(
                keys_by_input_name=_of_model(made.keys_by_input_name, model),
                keys_by_output_name=_of_model(made.keys_by_output_name, model),
                node_def=_repeated(made.op, name, body),
                specs=specs,
                can_subset=can_subset,
                backfill_policy=backfill_policy,
            )

    return decorate


def model_checks(
    *,
    name: str,
    specs: Sequence[dg.AssetCheckSpec],
    can_subset: bool,
    retry_policy: dg.RetryPolicy | None = None,
    pool: str | None = None,
) -> Callable[[_Body], dg.AssetChecksDefinition]:
    """Return a decorator as `dg.multi_asset_check`, for a body that every model has."""
    model = specs[0].asset_key.path[0]

    def decorate(body: _Body) -> dg.AssetChecksDefinition:
        kind = [
            dg.AssetCheckSpec(
                spec.name, asset=_key_of_any_model(spec.asset_key, model), blocking=spec.blocking
            )
            for spec in specs
        ]
        shape = (body.__code__, *(spec.key for spec in kind), can_subset, retry_policy, pool)
        with _own_warnings_left_out():
            if shape not in _CHECKS:
                _CHECKS[shape] = dg.multi_asset_check(
                    name=body.__name__,
                    specs=kind,
                    can_subset=can_subset,
                    retry_policy=retry_policy,
                    pool=pool,
                )(body)
            made = _CHECKS[shape]
            own = {each.key: spec for each, spec in zip(kind, specs, strict=True)}
            return dg.AssetChecksDefinition.create(
                keys_by_input_name=_of_model(made.node_keys_by_input_name, model),
                node_def=_repeated(made.op, name, body),
                check_specs_by_output_name={
                    output: own[spec.key] for output, spec in made.check_specs_by_output_name.items()
                },
                can_subset=can_subset,
            )

    return decorate


def _repeated(op: dg.OpDefinition, name: str, body: _Body) -> dg.OpDefinition:
    """Return the op under another name and with another closure of its body; it shares all else."""
    # Dagster's own `with_replaced_properties` keeps the body, and derives all else again.
    repeated = copy.copy(op)
    repeated._name = name  # noqa: SLF001
    repeated._compute_fn = DecoratedOpFunction(body)  # noqa: SLF001
    return repeated


def _of_any_model(spec: dg.AssetSpec, model: str) -> dg.AssetSpec:
    """Return what of a spec shapes its op, under keys that are of no single model."""
    return dg.AssetSpec(
        _key_of_any_model(spec.key, model),
        deps=[
            dg.AssetDep(_key_of_any_model(dep.asset_key, model), partition_mapping=dep.partition_mapping)
            for dep in spec.deps
        ],
        skippable=spec.skippable,
        partitions_def=spec.partitions_def,
    )


def _key_of_any_model(key: dg.AssetKey, model: str) -> dg.AssetKey:
    return dg.AssetKey(_path(key, model))


def _path(key: dg.AssetKey, model: str) -> tuple[str, ...]:
    return (_ANY_MODEL, *key.path[1:]) if key.path[0] == model else tuple(key.path)


def _of_model(keys: Mapping[str, dg.AssetKey], model: str) -> dict[str, dg.AssetKey]:
    return {
        name: dg.AssetKey([model, *key.path[1:]]) if key.path[0] == _ANY_MODEL else key
        for name, key in keys.items()
    }


@contextmanager
def _own_warnings_left_out() -> Iterator[None]:
    """Leave out what Dagster says of its own decorators, which use the same parameters without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
