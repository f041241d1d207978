"""Compares features that were prepared twice for one partition, by entity and column."""

from __future__ import annotations

from math import isclose, isnan
from typing import Any

import pyarrow as pa

_ENTITY = "entity_id"
_MAX_NAMED = 20
# The tolerance for sums of the same numbers in another order.
_RELATIVE = 1e-9


def differences(all_data: pa.Table, without_later: pa.Table) -> list[dict[str, Any]]:
    """Return the entity and column of each value that later data changes, without the value.

    If later data adds or removes an entity, the column is None. If it adds or removes a column, the entity is
    None. The result has only the first entities of each difference, and their total number.
    """
    before, after = _by_entity(without_later), _by_entity(all_data)
    found: list[dict[str, Any]] = []
    for entities, what in (
        (sorted(after.keys() - before.keys()), "the entity exists only with later data"),
        (sorted(before.keys() - after.keys()), "the entity exists only without later data"),
    ):
        found += _described(entities, None, what)
    names = {name for name in (*all_data.column_names, *without_later.column_names) if name != _ENTITY}
    shared = sorted(before.keys() & after.keys())
    for name in sorted(names):
        if name not in all_data.column_names or name not in without_later.column_names:
            is_with = name in all_data.column_names
            what = f"the column exists only {'with' if is_with else 'without'} later data"
            found.append({"entity": None, "column": name, "entities": len(shared), "what": what})
            continue
        changed = [key for key in shared if not _equal(before[key][name], after[key][name])]
        found += _described(changed, name, "later data changes the value")
    return found


def _described(entities: list[str], column: str | None, what: str) -> list[dict[str, Any]]:
    return [
        {"entity": entity, "column": column, "entities": len(entities), "what": what}
        for entity in entities[:_MAX_NAMED]
    ]


def _by_entity(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row[_ENTITY]: row for row in table.to_pylist()}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (isnan(one) and isnan(other)) or isclose(one, other, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return bool(one == other)
