"""The demo's steps for one model: score, wait for the load and publication, call the API, roll back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.local.stack.dagster_runs import wait_for
from infra.local.supervision.stack_state import StackError
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import LoadState, ReleaseState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.demo.demo_stores import Stores
    from infra.local.demo.live_api import LiveApi, ServedAnswer
    from infra.local.demo.mlpipe_commands import MlpipeCommands
    from infra.local.stack.dagster_runs import Dagster, Run
    from prediction_contract.manifests.manifest import Manifest
    from prediction_contract.registry.records import BatchRecord

_SENSOR = "done_files"
_SCORING_SECONDS = 300
_SENSOR_SECONDS = 120
_LOAD_SECONDS = 300
_SWITCH_SECONDS = 10


@dataclass(frozen=True)
class Delivered:
    """A loaded batch of a partition.

    Attributes:
        partition: The partition.
        manifest: The batch's manifest.
        is_live: Whether it became live. Otherwise it is history, because a newer partition was already live.
        seconds: Seconds from the done file to the API's first answer from the batch; None if it is history.
    """

    partition: str
    manifest: Manifest
    is_live: bool
    seconds: float | None

    @property
    def batch_id(self) -> str:
        """The batch's id."""
        return str(self.manifest.batch_id)

    @property
    def version(self) -> int | None:
        """The model's version that scored the batch; None for a model without versions."""
        package = self.manifest.model_package
        return None if package is None else package.version


@dataclass(frozen=True)
class ModelPath:
    """The steps of one model's path.

    Attributes:
        model: The model.
        entity_id: The entity whose prediction is requested.
        dagster: The Dagster that runs the model.
        stores: The stores with its batches.
        api: The API that serves it.
        commands: The `mlpipe` command.
    """

    model: str
    entity_id: str
    dagster: Dagster
    stores: Stores
    api: LiveApi
    commands: MlpipeCommands

    def score(self, partition: str) -> str:
        """Score a partition by a Dagster run; return the batch's id."""
        before = {batch.batch_id for batch in self.stores.registry.batches(self.model)}
        run_id = self.dagster.launch_job(f"{self.model}_score", partition=_dagster_key(partition))
        run = self.dagster.await_run(
            run_id, seconds=_SCORING_SECONDS, what=f"Scoring {self.model} for {partition}"
        )
        batch_id = run.tags.get(f"mlpipe.batch/{self.model}", "")
        if not batch_id or batch_id in before:
            raise StackError(
                f"Run {run_id} wrote no new batch for {partition}",
                remedy=f"See {self.dagster.page(run_id)}",
            )
        return batch_id

    def deliver(self, partition: str, batch_id: str) -> Delivered:
        """Wait until the daemon's sensor has noticed a batch and the run that it started has published it."""
        manifest, done_at = self.stores.manifest(self._record(batch_id))
        pointer = self.stores.registry.pointer(self.model, self.stores.deployment.home)
        live_before = pointer.partition if pointer and pointer.partition else ""
        tags = {"mlpipe/batch_id": batch_id}
        what = f"The load of batch {batch_id}"
        load_job = f"{self.model}_load"
        run = wait_for(
            lambda: self._load_run(batch_id, load_job, tags),
            seconds=_SENSOR_SECONDS,
            what=f"The sensor's start of a load run for {manifest.key}",
            reason_at=str(self.dagster.service.log),
        )
        if run.tags.get("dagster/sensor_name") != _SENSOR:
            raise StackError(
                f"Run {run.run_id} was not started by the sensor {_SENSOR}",
                remedy=f"See {self.dagster.page(run.run_id)}",
            )
        first_answer: list[datetime] = []

        def look() -> str | None:
            if not first_answer and self.api.ask(self.entity_id).batch_id == batch_id:
                first_answer.append(datetime.now(UTC))
            newest = self.dagster.newest_run(load_job, tags)
            if newest is not None and newest.has_failed:
                raise self.dagster.failure(newest, what)
            return newest.run_id if newest is not None and newest.status == "SUCCESS" else None

        run_id = wait_for(look, seconds=_LOAD_SECONDS, what=what, reason_at=self.dagster.page(run.run_id))
        is_live = self._record(batch_id).release_state == ReleaseState.LIVE
        if is_live == (live_before > partition):
            raise StackError(
                f"Batch {batch_id} of {partition} is {'live' if is_live else 'history'}, although"
                f" {live_before or 'nothing'} was live before",
                remedy=f"See {self.dagster.page(run_id)} and `mlpipe batches {self.model}`",
            )
        if is_live and not first_answer:
            first_answer.append(self.await_answer(batch_id)[1])
        seconds = (first_answer[0] - done_at).total_seconds() if is_live else None
        return Delivered(partition, manifest, is_live, None if seconds is None else round(seconds, 1))

    def _load_run(self, batch_id: str, load_job: str, tags: Mapping[str, str]) -> Run | None:
        """Return the run that the sensor requested, or None so far; raise if the batch is refused."""
        record = self._record(batch_id)
        if record.load_state == LoadState.REFUSED:
            raise StackError(
                f"Batch {batch_id} was refused: {record.refusal_reason}", remedy="See the batch's files"
            )
        return self.dagster.newest_run(load_job, tags)

    def await_answer(self, batch_id: str) -> tuple[ServedAnswer, datetime]:
        """Wait until the API answers from a batch; return the answer and its time.

        Raises:
            StackError: The API does not answer from the batch within 10 seconds.
        """

        def look() -> tuple[ServedAnswer, datetime] | None:
            answer = self.api.ask(self.entity_id)
            return (answer, datetime.now(UTC)) if answer.batch_id == batch_id else None

        return wait_for(
            look,
            seconds=_SWITCH_SECONDS,
            what=f"The API's switch to batch {batch_id}",
            reason_at=f"`mlpipe batches {self.model}`",
            pause_seconds=0.2,
        )

    def batch_before(self, live: Delivered) -> str:
        """Return the batch to roll back to: the newest one of the nearest earlier partition that was live.

        Raises:
            StackError: There is no such batch.
        """
        earlier = [
            (record.partition, record.batch_id)
            for record in self.stores.registry.batches(self.model)
            if record.release_state == ReleaseState.SUPERSEDED and record.partition < live.partition
        ]
        if not earlier:
            raise StackError(
                f"No partition before {live.partition} has a batch that was live",
                remedy=f"See `mlpipe batches {self.model}`",
            )
        return max(earlier)[1]

    def switch(self, command: str, batch_id: str) -> tuple[ServedAnswer, float]:
        """Roll back to a batch or publish it by the `mlpipe` command, and check that the API answers from it.

        Args:
            command: `rollback` or `publish`.
            batch_id: The batch's id.

        Returns:
            The answer, and the seconds from the command's end to the answer.

        Raises:
            StackError: The command fails, or the API does not answer from the batch within 10 seconds.
        """
        target = ["--to", batch_id] if command == "rollback" else [batch_id]
        self.commands.run(command, self.model, *target, "--reason", "shown by mlpipe demo")
        ended = time.monotonic()
        answer, _ = self.await_answer(batch_id)
        return answer, time.monotonic() - ended

    def _record(self, batch_id: str) -> BatchRecord:
        record = self.stores.registry.batch(self.model, batch_id)
        if record is None:
            raise StackError(
                f"Batch {batch_id} is not in the registry", remedy=f"See {self.dagster.service.log}"
            )
        return record


def _dagster_key(partition: str) -> str:
    return Partition(partition).dagster_key
