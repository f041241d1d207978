"""How much a finding about a batch matters."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """A block keeps the batch from being published automatically."""

    PASS = 0
    WARN = 1
    BLOCK = 2
