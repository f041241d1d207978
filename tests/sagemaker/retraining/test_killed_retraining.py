"""Tests of retraining steps that are killed before a write, or overtaken by a second run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from prediction_batches.object_store import ObjectStore
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.retraining.retrained_model import DAYS, RetrainedModel, Versions

if TYPE_CHECKING:
    from collections.abc import Callable

LAST = "2013-02-15"
# Two files and an index for each of three partitions, the range, the claim and the plan.
PLAN_PUTS = 12


class KilledError(BaseException):
    """Stands for a killed process, so nothing may catch it."""


@dataclass
class WatchedS3(MemoryS3):
    """An in-memory bucket that calls a function before each put.

    Attributes:
        before_put: Called with the key.
    """

    before_put: Callable[[str], None] = lambda _: None

    def put_object(self, **given: Any) -> None:
        """Call the function, then write the object."""
        self.before_put(given["Key"])
        super().put_object(**given)


def fresh(model: RetrainedModel) -> tuple[RetrainedModel, WatchedS3]:
    """Return the same model on a new bucket that holds only its sources and inputs."""
    client = WatchedS3()
    again = replace(model, store=ObjectStore(client, "mlpipe-data"), registry=Versions())
    again.deliver(DAYS)
    again.arguments("one")
    return again, client


def planned(model: RetrainedModel) -> None:
    """Plan a short retraining."""
    model.plan(last_partition=LAST, window=1, held_out=1, gap=0)


def test_plan_killed_before_any_write_repeats_identically(
    model: RetrainedModel,
) -> None:
    """Wherever planning was killed, a repeated run leaves the same objects as an undisturbed one."""
    whole, client = fresh(model)
    puts: list[str] = []
    client.before_put = puts.append
    planned(whole)
    # One more: planning in this test also uploads the inputs.
    assert len(puts) == PLAN_PUTS + 1
    for number in range(PLAN_PUTS):
        killed, dying = fresh(model)
        left = [number + 1]

        def die(_key: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        dying.before_put = die
        with pytest.raises(KilledError):
            planned(killed)
        dying.before_put = lambda _: None
        planned(killed)
        assert dying.objects == client.objects, puts[number + 1]


def test_overtaken_planning_uses_the_first_plan(model: RetrainedModel) -> None:
    """If a second run writes the plan first, the slower one returns that plan and its champion."""
    slow, client = fresh(model)
    slow.champion({"rate": 9.0})

    def overtake(key: str) -> None:
        if key.endswith("/plan.json"):
            client.before_put = lambda _: None
            slow.champion({"rate": 8.0})
            planned(slow)

    client.before_put = overtake
    plan = slow.plan(last_partition=LAST, window=1, held_out=1, gap=0)
    assert plan.champion is not None
    assert plan.champion.version == 2
    assert client.objects["models/churn/retraining/one/plan.json"] == plan.to_bytes()


def test_overtaken_judging_uses_the_first_verdict(model: RetrainedModel) -> None:
    """If a second run writes the verdict first, the slower one returns that verdict."""
    slow, client = fresh(model)
    slow.plan(last_partition=LAST)
    candidate = slow.train()

    def overtake(key: str) -> None:
        if key.endswith("/verdict.json"):
            client.before_put = lambda _: None
            first = slow.judge(candidate)
            client.objects[key] = replace(first, reason="It was quicker").to_bytes()

    client.before_put = overtake
    assert slow.judge(candidate).reason == "It was quicker"
