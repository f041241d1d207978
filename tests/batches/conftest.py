"""Fixtures for tests that write batches to the local stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prediction_batches.object_store import ObjectStore
from tests.batches.delivery.stack_batches import StackBatches

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack


@pytest.fixture
def batches(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> StackBatches:
    """Return a new model on the local stack that has no batches yet."""
    for name, value in local_stack.environment.items():
        monkeypatch.setenv(name, value)
    return StackBatches(ObjectStore.of_job(local_stack.environment["MLPIPE_DATA_BUCKET"]))
