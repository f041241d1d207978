"""Which partitions a model has."""

from __future__ import annotations

from typing import Literal

from mlpipe_dagster.declaration.values import DeclaredModel, PartitionText


class Partitions(DeclaredModel):
    """Which partitions the model has: daily, from `start`; `end` is the first that is no longer one."""

    kind: Literal["daily"] = "daily"
    start: PartitionText
    end: PartitionText | None = None
