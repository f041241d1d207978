"""Placeholders in the paths and parameters of a source."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prediction_contract.naming.batch import Partition

_PLACEHOLDER = re.compile(r"\{(partition|date|hour)\}")


def filled(text: str, partition: str) -> str:
    """Return a text with `{partition}`, `{date}` and `{hour}` replaced by a partition's values.

    Date and hour are those of the partition's start in UTC, for example 2013-02-01 and 05.
    """
    start = Partition(partition).start
    values = {"partition": str(partition), "date": f"{start:%Y-%m-%d}", "hour": f"{start:%H}"}
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def names_partition(texts: Sequence[str], partition: str) -> bool:
    """Tell whether the filled texts differ for each partition.

    With only the date, they are the same for all hours of a day.
    """
    named = {found for text in texts for found in _PLACEHOLDER.findall(text)}
    is_hour = "T" in partition
    return "partition" in named or ("date" in named and (not is_hour or "hour" in named))


def fixed_prefix(path: str) -> str:
    """Return the common prefix of all keys that match a path."""
    return path.split("*", 1)[0]


def key_pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of the keys that match a path; `*` is any text without `/`."""
    first, *parts = (re.escape(part) for part in path.split("*"))
    if not parts:
        return re.compile(first)
    # Match the text after a `*` only at its first occurrence, because trying all combinations takes minutes
    # for some keys.
    between = "".join(f"(?>[^/]*?{part})" for part in parts[:-1])
    return re.compile(f"{first}{between}[^/]*{parts[-1]}")
