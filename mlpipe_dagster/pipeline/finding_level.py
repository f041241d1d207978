"""The severity of a finding about a batch."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """The level of a finding; BLOCK keeps the batch from being published automatically."""

    PASS = 0
    WARN = 1
    BLOCK = 2
