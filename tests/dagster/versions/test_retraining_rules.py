"""Drift starts a retraining, but a retraining never starts the next one, simulated over many days."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.versions.retraining_rules import (
    JudgedBatch,
    drift_cause,
    has_cooled_down,
    newest_of_partitions,
)
from prediction_contract.naming.batch import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = Partition("2013-01-01")
COOL_DOWN = 7


def judged(day: int, *, moved: bool, version: str = "a", batch: str = "1") -> JudgedBatch:
    """Return the drift verdict of a day's batch."""
    partition = FIRST.later(day)
    return JudgedBatch(
        batch_id=f"{partition}-{batch}", partition=partition, model_version=version, has_moved=moved
    )


@pytest.mark.parametrize(
    ("found", "starts"),
    [
        ([], False),
        ([judged(1, moved=True)], False),
        ([judged(2, moved=True), judged(1, moved=True)], True),
        ([judged(3, moved=True), judged(2, moved=False), judged(1, moved=True)], True),
        ([judged(3, moved=False), judged(2, moved=True), judged(1, moved=True)], True),
        (
            [judged(4, moved=False), judged(3, moved=False), judged(2, moved=True), judged(1, moved=True)],
            False,
        ),
        (
            [judged(3, moved=True), judged(2, moved=True, version="b"), judged(1, moved=True, version="b")],
            False,
        ),
    ],
)
def test_two_drifted_batches_of_the_last_three_start_retraining(
    found: list[JudgedBatch], starts: bool
) -> None:
    """One may be a holiday, and batches of other versions do not count."""
    assert (drift_cause(found, "a") is not None) is starts


def test_partition_counts_once() -> None:
    """Of a partition scored twice, only the newest batch counts."""
    twice = [judged(1, moved=True, batch="1"), judged(1, moved=False, batch="2"), judged(2, moved=True)]
    assert newest_of_partitions(twice) == [judged(2, moved=True), judged(1, moved=False, batch="2")]


@pytest.mark.parametrize(("day", "cooled"), [(10, False), (16, False), (17, False), (18, True)])
def test_retraining_waits_for_cool_down(day: int, cooled: bool) -> None:
    """The declared number of partitions must lie in between, but only after an earlier retraining."""
    assert has_cooled_down(FIRST.later(day), [FIRST.later(3), FIRST.later(10)], COOL_DOWN) is cooled
    assert has_cooled_down(FIRST.later(day), [], COOL_DOWN)


@dataclass
class World:
    """A model that is scored daily, compared with the live batch, and retrained when it drifts.

    Attributes:
        truth: Returns the true value of a day.
        is_published: Whether a day's batch becomes live.
        champion: The version that scores.
        live: Version and predicted value of the live batch.
        found: All drift verdicts so far.
        retrained: The days on which a retraining was started.
    """

    truth: Callable[[int], float]
    is_published: Callable[[int], bool] = lambda _day: True
    champion: str = "v0"
    live: tuple[str, float] | None = None
    found: list[JudgedBatch] = field(default_factory=list)
    retrained: list[int] = field(default_factory=list)

    def play(self, days: int, *, knows_versions: bool = True) -> None:
        """Simulate days; each new version predicts other values than the one before.

        Args:
            days: The number of days.
            knows_versions: Whether a shift from another version's batch is known to be by design.
        """
        for day in range(days):
            predicted = self.truth(day) + 10 * int(self.champion[1:])
            of_version, before = self.live or (self.champion, predicted)
            is_by_design = knows_versions and of_version != self.champion
            moved = abs(predicted - before) > 1 and not is_by_design
            self.found.append(judged(day, moved=moved, version=self.champion))
            if self.is_published(day):
                self.live = (self.champion, predicted)
            self._retrain(day)

    def _retrain(self, day: int) -> None:
        newest = newest_of_partitions(self.found)
        if drift_cause(newest, self.champion) is None:
            return
        if has_cooled_down(newest[0].partition, [FIRST.later(each) for each in self.retrained], COOL_DOWN):
            self.retrained.append(day)
            self.champion = f"v{len(self.retrained)}"


def test_stable_world_is_never_retrained() -> None:
    """Without drift no retraining starts."""
    world = World(truth=lambda _day: 5.0)
    world.play(100)
    assert world.retrained == []


def test_promotion_does_not_start_another_retraining() -> None:
    """The world changes once, so a drifting new version must not start a second retraining.

    Its batches wait for a person for twenty days, so they are compared with a batch of the old version.
    Without `knows_versions` each of them counts as drift, and one retraining starts the next.
    """

    def world() -> World:
        return World(
            truth=lambda day: 5.0 if day < 20 else 9.0 + (day % 2) * 3 * (day < 22),
            is_published=lambda day: not 22 <= day < 43,
        )

    guarded, unguarded = world(), world()
    guarded.play(100)
    assert len(guarded.retrained) == 1
    unguarded.play(100, knows_versions=False)
    assert len(unguarded.retrained) > 1


def test_constant_drift_retrains_only_after_cool_down() -> None:
    """Two retrainings lie at least one partition more than the cool-down apart."""
    world = World(truth=lambda day: 3.0 * day)
    world.play(100)
    pauses = [later - earlier for earlier, later in zip(world.retrained, world.retrained[1:], strict=False)]
    assert min(pauses) == COOL_DOWN + 1
    assert len(world.retrained) <= 100 / COOL_DOWN
