"""A retraining that dies before any of its writes, and one that another run of the same step overtakes."""

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
# Three partitions of two files and an index each, the range, the claim and the plan.
PLAN_PUTS = 12


class KilledError(BaseException):
    """The process is gone; nothing catches it."""


@dataclass
class WatchedS3(MemoryS3):
    """A bucket that tells of each put before it is carried out.

    Attributes:
        before_put: Gets the key.
    """

    before_put: Callable[[str], None] = lambda _: None

    def put_object(self, **given: Any) -> None:
        """Write an object."""
        self.before_put(given["Key"])
        super().put_object(**given)


def fresh(model: RetrainedModel) -> tuple[RetrainedModel, WatchedS3]:
    """Return the same model on a bucket of its own, with nothing but its sources."""
    client = WatchedS3()
    again = replace(model, store=ObjectStore(client, "mlpipe-data"), registry=Versions())
    again.deliver(DAYS)
    again.arguments("one")
    return again, client


def planned(model: RetrainedModel) -> None:
    """Plan a short retraining."""
    model.plan(last_partition=LAST, window=1, held_out=1, gap=0)


def test_a_plan_that_is_killed_before_any_write_is_the_same_when_it_is_made_again(
    model: RetrainedModel,
) -> None:
    """Features, claim and plan: byte by byte what one run alone leaves."""
    whole, client = fresh(model)
    puts: list[str] = []
    client.before_put = puts.append
    planned(whole)
    # The document of the inputs is the definition's.
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


def test_a_run_that_another_run_of_the_step_overtakes_keeps_to_its_plan(model: RetrainedModel) -> None:
    """A job that was given up may live on: both keep to one plan, though the champion changed between."""
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


def test_a_judge_that_another_run_of_the_step_overtakes_keeps_to_its_verdict(model: RetrainedModel) -> None:
    """The first verdict stands."""
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
