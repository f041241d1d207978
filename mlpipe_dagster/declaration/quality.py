"""What a batch must be like to be loaded and published."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlpipe_dagster.declaration.values import DeclaredModel, Share


class Quality(DeclaredModel):
    """What a batch may lack: so many refused rows, or that share of them, do not refuse it."""

    quarantine_rows: int = Field(default=10, ge=0)
    quarantine_rate: Share = "0.001"
    verify: Literal["full", "sample"] = "full"
