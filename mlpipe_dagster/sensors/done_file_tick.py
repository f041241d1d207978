"""One look of the sensor of done files: what is new, what becomes of it, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg

from mlpipe_dagster.data_bucket import DataBucket, ListedObject, ObjectMissingError
from mlpipe_dagster.noticing import notice
from mlpipe_dagster.sensors.done_file_cursor import AskedRun, Cursor
from mlpipe_dagster.sensors.done_file_marks import WINDOW_DAYS, Mark, Standing
from mlpipe_dagster.sensors.done_file_notices import DoneFileNotices, Notice
from mlpipe_dagster.sensors.done_file_sweep import SWEEP_EVERY, Sweep
from mlpipe_dagster.sensors.load_requests import Partitions, judged, refusal_event, requested_run
from prediction_contract.errors import ContractError
from prediction_contract.registry.table import RegistryTable

MOST_RUNS = 25
# Bad files need no run, yet a flood of them must not take the whole tick either.
_MOST_FILES = 100
_MOST_RECEIVES = 5
# Dagster gives a tick 60 seconds, and forgets all of one that takes longer.
_MOST_SECONDS = 30
_LONGEST_REASON = 2000
_RUN_KEY_TAG = "dagster/run_key"


class DoneFileTroubleError(ContractError):
    """A done file or the queue cannot be read."""


@dataclass
class DoneFileTick:
    """Looks once.

    Attributes:
        context: Dagster's, with the runs and the log.
        bucket: Where done files lie.
        registry: Where batches and refusals are recorded.
        notices: The queue that tells of done files.
        partitions: Each declared model's.
        now: The present moment, UTC.
        clock: Measures how long the tick takes.
    """

    context: dg.SensorEvaluationContext
    bucket: DataBucket
    registry: RegistryTable
    notices: DoneFileNotices
    partitions: Partitions
    now: datetime
    clock: Callable[[], float]

    _requests: list[dg.RunRequest] = field(default_factory=list)
    _events: list[dg.AssetObservation] = field(default_factory=list)
    _troubles: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the cursor, and note when the tick began."""
        self._began = self.clock()
        self._cursor = Cursor.parse(self.context.cursor)
        self._candidates: dict[str, tuple[ListedObject, Mark]] = {}

    def result(self) -> dg.SensorResult:
        """Look, deal with what is new, and return what Dagster is to do and to keep."""
        cursor = self._cursor
        cursor.marks.forget_before(self.now.date() - timedelta(days=WINDOW_DAYS))
        for key in self._confirm_asked():
            self._look(key)
        self._take_notices()
        through = self._list()
        # What was listed and not dealt with is listed again: only then the sweep goes on.
        if not self._deal():
            cursor.sweep = through
        if self._troubles:
            cursor.trouble = self._troubles[0][:_LONGEST_REASON]
        text = cursor.text()
        if cursor.trouble and text == self.context.cursor:
            # There is nothing else to tell or to keep: the tick fails, so that somebody looks.
            raise DoneFileTroubleError(
                cursor.trouble,
                remedy=f"It is tried again every {SWEEP_EVERY.total_seconds() / 60:.0f} minutes",
            )
        return dg.SensorResult(
            run_requests=self._requests,
            skip_reason=None if self._requests else self._skip_reason(),
            cursor=text,
            asset_events=self._events,
        )

    def _confirm_asked(self) -> list[str]:
        """Mark the files whose runs Dagster has made, and return those that it has lost."""
        cursor, lost = self._cursor, []
        for key, asked in cursor.asked.items():
            of_key = dg.RunsFilter(tags={_RUN_KEY_TAG: asked.run_key})
            if self.context.instance.get_run_ids(of_key, limit=1):
                cursor.marks.add(key, asked.mark, self.now.date())
            else:
                lost.append(key)
        cursor.asked = {}
        return lost

    def _look(self, key: str) -> bool:
        """Look at a file, and return whether it needs nothing more: it was dealt with, or is gone."""
        try:
            found = self.bucket.look(key)
        except Exception as error:  # noqa: BLE001  # whatever ails one file, the others go on
            self._note_trouble(key, error)
            return False
        if found is None:
            self.context.log.warning("The done file %s was deleted before it was loaded", key)
            return True
        return not self._consider(found)

    def _consider(self, found: ListedObject) -> bool:
        """Keep a file for dealing with if it needs that, and return whether it does."""
        mark = Mark.of(found, self.partitions)
        if self._cursor.marks.standing(mark) is Standing.DEALT_WITH:
            return False
        self._candidates[found.key] = (found, mark)
        return True

    def _take_notices(self) -> None:
        """Hear which files are new, and delete the messages whose run or refusal is recorded."""
        settled: list[Notice] = []
        try:
            for _ in range(_MOST_RECEIVES):
                received = self.notices.receive()
                for told in received:
                    if told.key is None:
                        self.context.log.warning(
                            "Message %s tells of no done file of ours: it is left to the dead-letter queue",
                            told.message_id,
                        )
                    elif self._look(told.key):
                        settled.append(told)
                # More would only wait, and count as received.
                if not received or len(self._candidates) >= MOST_RUNS or self._is_late():
                    break
            self.notices.delete(settled)
        except Exception as error:  # the listing finds what the queue does not tell
            self.context.log.exception("The queue of done files does not answer")
            self._troubles.append(f"The queue of done files does not answer: {error}")

    def _list(self) -> Sweep:
        """List the sweep's next piece, and return how far the sweep is once that is dealt with."""
        begun = self._cursor.sweep.begun_if_due(self.now)
        if begun != self._cursor.sweep:
            self._cursor.sweep, self._cursor.trouble = begun, ""
        found, through = begun.piece(self.bucket)
        for file in found:
            self._consider(file)
        return through

    def _deal(self) -> bool:
        """Deal with the oldest batches' files first, and return whether some were left for the next tick."""
        oldest = sorted(self._candidates.values(), key=lambda found: found[0].key.rpartition("/")[2])
        for number, (found, mark) in enumerate(oldest):
            if len(self._requests) == MOST_RUNS or number == _MOST_FILES or self._is_late():
                return True
            try:
                self._deal_with(found.key, mark)
            except ObjectMissingError:
                # Deleted since it was listed: there is nothing left to load.
                continue
            except Exception as error:  # noqa: BLE001  # whatever ails one file, the others go on
                self._note_trouble(found.key, error)
        return False

    def _deal_with(self, key: str, mark: Mark) -> None:
        """Request the run of a file, or record its refusal."""
        cursor = self._cursor
        standing = cursor.marks.standing(mark)
        noticed = judged(
            notice(self.bucket, self.registry, key, redelivered=standing is Standing.REDELIVERED),
            self.registry,
            self.partitions,
        )
        if noticed.refusal is None and (request := requested_run(mark, standing, noticed)):
            self._requests.append(request)
            # Marked by the next tick, which sees whether Dagster has made the run.
            cursor.asked[key] = AskedRun(str(request.run_key), mark)
            return
        cursor.marks.add(key, mark, self.now.date())
        if noticed.refusal is not None:
            self.context.log.error("The done file %s is refused: %s", key, noticed.refusal)
            self._refusals.append(f"{key}: {noticed.refusal}")
            self._events.append(refusal_event(noticed, self.partitions))

    def _note_trouble(self, key: str, error: Exception) -> None:
        self.context.log.error("The done file %s cannot be dealt with yet: %s", key, error)
        self._troubles.append(f"The done file {key} cannot be dealt with yet: {error}")

    def _is_late(self) -> bool:
        return self.clock() - self._began > _MOST_SECONDS

    def _skip_reason(self) -> str:
        told = [f"Refused: {refusal}" for refusal in self._refusals] + self._troubles
        return "; ".join(told)[:_LONGEST_REASON] or "No new done files"
