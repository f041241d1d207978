"""Maps the S3 keys of a model's sources to partitions, by the declared paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.model_inputs import FILE_FORMATS, Source
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import PartitionKind

_PLACEHOLDER = re.compile(r"\{(partition|date|hour)\}|(\*)")
_FORMS = {"date": "[0-9]{4}-[0-9]{2}-[0-9]{2}", "hour": "(?:[01][0-9]|2[0-3])"}
_LAST_HOUR = "23"
# The values of a path's placeholders, in an order that sorts by time.
PlaceholderValues = tuple[str, ...]


def values_of_partition(path: str, partition: str) -> PlaceholderValues:
    """Return the values of a path's placeholders for a partition; empty if the path has none."""
    start = Partition(partition).start
    values = {"partition": partition, "date": f"{start:%Y-%m-%d}", "hour": f"{start:%H}"}
    return _in_order({found[1]: values[found[1]] for found in _PLACEHOLDER.finditer(path) if found[1]})


def values_of_key(path: str, key: str, kind: PartitionKind) -> PlaceholderValues | None:
    """Return the values of a path's placeholders in a key, or None if the key does not match the path.

    Args:
        path: A path with `{partition}`, `{date}`, `{hour}`, and `*` for any text without `/`.
        key: The key of an object.
        kind: The kind of the model's partitions.
    """
    found = _form(path, kind).fullmatch(key)
    return None if found is None else _in_order(found.groupdict())


class SourceKeys:
    """The objects of a model's sources by partition.

    Args:
        sources: The model's sources. All are ignored except file sources and readers whose path has no `*`.
        keys: The keys of all objects.
        kind: The kind of the model's partitions.
    """

    def __init__(self, sources: Iterable[Source], keys: Iterable[str], kind: PartitionKind) -> None:
        self._kind = kind
        self._sources = [source for source in sources if _has_fixed_path(source)]
        known = list(keys)
        self._places = {
            source.name: {
                place for key in known if (place := values_of_key(source.path, key, kind)) is not None
            }
            for source in self._sources
        }

    def missing_sources(self, partition: str) -> list[str]:
        """Return the names of the sources that have no object for a partition."""
        return [
            source.name
            for source in self._sources
            if values_of_partition(source.path, partition) not in self._places[source.name]
        ]

    def newest(self, *, first: str, end: str | None) -> str | None:
        """Return the newest partition for which every source has an object, or None.

        Args:
            first: The first partition to consider.
            end: The partition after the last one to consider; None for no limit.
        """
        found = {
            partition
            for source in self._sources
            for place in self._places[source.name]
            if (partition := self._partition_at(source.path, place)) is not None
        }
        fitting = (each for each in found if first <= each and (end is None or each < end))
        return max((each for each in fitting if not self.missing_sources(each)), default=None)

    def _partition_at(self, path: str, place: PlaceholderValues) -> str | None:
        if not place:
            return None
        values = dict(zip(_names_in(path), place, strict=True))
        try:
            if "partition" in values:
                return str(Partition(values["partition"]))
            if "date" not in values:
                return None
            day = datetime.fromisoformat(values["date"]).replace(tzinfo=UTC)
            return self._kind.text_at(day + timedelta(hours=int(values.get("hour", _LAST_HOUR))))
        except (InvalidNameError, ValueError):
            # The key matches the path, but its date does not exist.
            return None


def _has_fixed_path(source: Source) -> bool:
    return bool(source.path) and (
        source.format in FILE_FORMATS or (source.format == "reader" and "*" not in source.path)
    )


def _names_in(path: str) -> tuple[str, ...]:
    return tuple(_in_order({found[1]: found[1] for found in _PLACEHOLDER.finditer(path) if found[1]}))


def _in_order(values: Mapping[str, str]) -> PlaceholderValues:
    return tuple(values[name] for name in ("partition", "date", "hour") if name in values)


@lru_cache(maxsize=256)
def _form(path: str, kind: PartitionKind) -> re.Pattern[str]:
    """Return the pattern of a path's keys, with a group for the first occurrence of each placeholder."""
    seen: set[str] = set()
    pieces, place = [], 0
    for found in _PLACEHOLDER.finditer(path):
        pieces.append(re.escape(path[place : found.start()]))
        place = found.end()
        name = found[1]
        if name is None:
            pieces.append("[^/]*")
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f"(?P<{name}>{_FORMS.get(name, kind.pattern)})")
    return re.compile("".join([*pieces, re.escape(path[place:])]))
