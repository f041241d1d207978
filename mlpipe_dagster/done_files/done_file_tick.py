"""One tick of the done-file sensor: finds new files, requests their runs, and updates the cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import dagster as dg

from mlpipe_dagster.done_files.done_file_cursor import (
    MAX_LIST_CALLS,
    SWEEP_EVERY,
    Cursor,
    RequestedRun,
    Sweep,
)
from mlpipe_dagster.done_files.done_file_fingerprints import (
    WINDOW_DAYS,
    DeliveryStatus,
    Fingerprint,
    model_of,
)
from mlpipe_dagster.done_files.done_file_queue import DoneFileMessage, DoneFileQueue
from mlpipe_dagster.done_files.done_file_suspects import MAX_DEATHS, Suspects
from mlpipe_dagster.done_files.load_requests import (
    Partitions,
    refusal_event,
    refuse_unknown_target,
    requested_run,
)
from mlpipe_dagster.done_files.registration import (
    DoneFile,
    done_file_content,
    parse_done_file,
    record_done_file,
    unread_done_file,
)
from mlpipe_dagster.resources.data_bucket import DataBucket, ListedObject, ObjectMissingError
from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import MANIFEST_BYTES
from prediction_contract.printable_text import escape_unprintable
from prediction_contract.registry.table import RegistryTable

MAX_RUNS = 25
# More files of unknown models than this are not remembered; the sweep finds them once their model is known.
MAX_WAITING = 200
# Bad files need no run, but many of them must not take up the whole tick either.
_MAX_REFUSALS = 100
# Requests to S3 and the registry run in parallel, so a tick takes only as long as the slowest few.
PARALLEL_REQUESTS = 8
_MAX_RECEIVES = 5
# After 60 seconds Dagster drops a tick and its results.
_MAX_SECONDS = 30
_LONGEST_REASON = 2000
_RUN_KEY_TAG = "dagster/run_key"
_Found = TypeVar("_Found")


class DoneFileUnreadableError(ContractError):
    """A done file or the queue cannot be read."""


@dataclass
class DoneFileTick:
    """One tick.

    Attributes:
        context: Dagster's context, with the runs and the log.
        bucket: The bucket of the done files.
        registry: The registry, which records batches and refusals.
        queue: The queue of S3's events on done files.
        partitions: The partitions of each declared model.
        now: The current time, UTC.
        clock: A monotonic clock in seconds.
    """

    context: dg.SensorEvaluationContext
    bucket: DataBucket
    registry: RegistryTable
    queue: DoneFileQueue
    partitions: Partitions
    now: datetime
    clock: Callable[[], float]

    _requests: list[dg.RunRequest] = field(default_factory=list)
    _events: list[dg.AssetObservation] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the cursor and start the clock."""
        self._began = self.clock()
        self._cursor = Cursor.parse(self.context.cursor)
        self._candidates: dict[str, ListedObject] = {}
        self._suspects = Suspects(self.context.instance, self.bucket.name)

    def result(self) -> dg.SensorResult:
        """Find and process new done files; return the result for Dagster."""
        cursor = self._cursor
        cursor.fingerprints.forget_before(self.now.date() - timedelta(days=WINDOW_DAYS))
        self._check_suspects()
        self._check(self._confirm_requested())
        self._check_waiting()
        self._receive_messages()
        sweep = self._list_next()
        # If some files were not processed, their pages must be listed again, so the sweep does not advance.
        if not self._process_candidates():
            cursor.sweep = sweep
        if self._errors:
            cursor.last_error = self._errors[0][:_LONGEST_REASON]
        text = cursor.text()
        if cursor.last_error and text == self.context.cursor:
            # Nothing new to report or store, so the tick fails to draw attention to the error.
            raise DoneFileUnreadableError(
                cursor.last_error,
                remedy=f"The sensor tries again every {SWEEP_EVERY.total_seconds() / 60:.0f} minutes",
            )
        return dg.SensorResult(
            run_requests=self._requests,
            skip_reason=None if self._requests else self._skip_reason(),
            cursor=text,
            asset_events=self._events,
        )

    def _check_suspects(self) -> None:
        """Check again the files that may have killed earlier ticks."""
        for key in self._check(list(self._suspects)):
            self._suspects.forget(key)

    def _confirm_requested(self) -> list[str]:
        """Remember the files whose requested runs exist in Dagster; return the other files."""
        cursor, lost = self._cursor, []
        for key, requested in cursor.requested.items():
            if self._has_run(requested.run_key):
                cursor.fingerprints.add(key, requested.fingerprint, self.now.date())
            else:
                lost.append(key)
        cursor.requested = {}
        return lost

    def _check_waiting(self) -> None:
        """Check waiting files whose model is known by now, and refuse those that waited too long."""
        waiting = self._cursor.waiting
        known = [key for key in waiting if model_of(key) in self.partitions]
        for key in self._check(known):
            del waiting[key]
        last = (self.now.date() - timedelta(days=WINDOW_DAYS)).isoformat()
        for key in [key for key, since in waiting.items() if since < last and key not in known]:
            del waiting[key]
            reason = (
                f"Its model was not declared within {WINDOW_DAYS} days. Declare the model, reload the code "
                f"location, then run `mlpipe load {key}`"
            )
            self._show_refusal(DoneFile(key=key, refusal=reason))

    def _has_run(self, run_key: str) -> bool:
        of_key = dg.RunsFilter(tags={_RUN_KEY_TAG: run_key})
        return bool(self.context.instance.get_run_ids(of_key, limit=1))

    def _check(self, keys: Sequence[str]) -> set[str]:
        """Check files, and return those that need no more work because they were processed or deleted."""
        settled = set()
        for key, found in zip(keys, in_parallel(self.bucket.look, keys), strict=True):
            if isinstance(found, Exception):
                self._log_error(key, found)
            elif found is None:
                self.context.log.warning(
                    "The done file %s was deleted before it was loaded", escape_unprintable(key)
                )
                settled.add(key)
            elif not self._add_if_new(found):
                settled.add(key)
        return settled

    def _add_if_new(self, found: ListedObject) -> bool:
        """Add a file to the candidates unless it was processed; return whether it was added."""
        if self._cursor.fingerprints.is_processed(Fingerprint.of(found, self.partitions)):
            return False
        self._candidates[found.key] = found
        return True

    def _receive_messages(self) -> None:
        """Receive messages of new files, and delete those whose run or refusal is recorded."""
        settled: list[DoneFileMessage] = []
        try:
            for _ in range(_MAX_RECEIVES):
                received = self.queue.receive()
                for foreign in (message for message in received if message.key is None):
                    self.context.log.warning(
                        "Message %s names no done file of this deployment; the dead-letter queue gets it",
                        foreign.message_id,
                    )
                known = self._check(sorted({message.key for message in received if message.key is not None}))
                settled += [message for message in received if message.key in known]
                # Further messages could not be processed now, and would count as received.
                if not received or len(self._candidates) >= MAX_RUNS or self._is_late():
                    break
            self.queue.delete(settled)
        except Exception as error:  # the listing finds the files anyway
            self.context.log.exception("The queue of done files does not answer")
            self._errors.append(f"The queue of done files does not answer: {error}")

    def _list_next(self) -> Sweep:
        """List the sweep's next pages; return the sweep's progress once their files are processed."""
        sweep = self._cursor.sweep.next_if_due(self.now)
        if sweep != self._cursor.sweep:
            self._cursor.sweep, self._cursor.last_error = sweep, ""
        calls = 0
        while sweep.days and calls < MAX_LIST_CALLS:
            calls += 1
            try:
                page, sweep = sweep.page(self.bucket)
            except Exception as error:  # the queue still reports new files
                day = sweep.days[0]
                self.context.log.exception("The done files of %s cannot be listed", day)
                self._errors.append(f"The done files of {day} cannot be listed: {error}")
                # A later sweep lists this day again, so that it does not block the other days.
                return sweep.skip_day()
            for file in page:
                self._add_if_new(file)
        return sweep

    def _process_candidates(self) -> bool:
        """Process files, those of the oldest batches first; return whether some must be listed again.

        Suspects come last unless they are due. Each tick checks them anyway, so the sweep may go on without
        them.
        """
        deaths = self._suspects.deaths
        left = sorted(self._candidates, key=lambda key: (deaths(key), key.rpartition("/")[2]))
        if self._suspects.are_due and not self._events and (suspect := next(filter(deaths, left), None)):
            left.remove(suspect)
            left.insert(0, suspect)
        while left:
            room = min(MAX_RUNS - len(self._requests), _MAX_REFUSALS - len(self._refusals))
            # If a suspect kills the tick, nothing else may be lost with it.
            if deaths(left[0]) and (self._requests or self._events):
                return False
            if room <= 0 or self._is_late():
                return True
            group = self._next_group(left[:room])
            left = left[len(group) :]
            for key, found in zip(group, self._register_group(group), strict=True):
                if isinstance(found, ObjectMissingError):
                    # It was deleted after it was listed, so there is nothing to load.
                    continue
                if isinstance(found, Exception):
                    self._log_error(key, found)
                else:
                    self._request_run_or_refuse(key, *found)
        return False

    def _next_group(self, left: Sequence[str]) -> Sequence[str]:
        """Return the next files to process: one suspect alone, or as many as one large file's bytes."""
        count, size = 1, self._candidates[left[0]].size
        for key in left[1:PARALLEL_REQUESTS]:
            size += self._candidates[key].size
            if self._suspects.deaths(left[0]) or self._suspects.deaths(key) or size > MANIFEST_BYTES:
                break
            count += 1
        return left[:count]

    def _register_group(
        self, keys: Sequence[str]
    ) -> list[tuple[Fingerprint, DeliveryStatus, DoneFile] | Exception]:
        """Read files, compare their content with the processed ones, and record them in the registry.

        Requests to S3 and the registry run in parallel. Parsing needs the processor, so files are parsed one
        by one.
        """
        if self._suspects.is_set_aside(keys[0]):
            read: dict[str, DoneFile | Exception] = {key: _set_aside(key) for key in keys}
        else:
            found = in_parallel(partial(done_file_content, self.bucket), keys)
            contents = dict(zip(keys, found, strict=True))
            with self._suspects.parsing(keys):
                read = {key: outcome(lambda key: self._parse(key, contents[key]), key) for key in keys}
        return in_parallel(lambda key: self._register(key, read[key]), keys)

    def _parse(self, key: str, content: bytes | Exception) -> DoneFile:
        if isinstance(content, Exception):
            raise content
        return parse_done_file(self.bucket, key, content)

    def _register(self, key: str, read: DoneFile | Exception) -> tuple[Fingerprint, DeliveryStatus, DoneFile]:
        if isinstance(read, Exception):
            raise read
        fingerprint = Fingerprint.of(self._candidates[key], self.partitions, read.digest)
        status = self._cursor.fingerprints.status_of(fingerprint)
        done_file = record_done_file(self.registry, read, redelivered=status is DeliveryStatus.REDELIVERED)
        return fingerprint, status, refuse_unknown_target(done_file, self.registry, self.partitions)

    def _request_run_or_refuse(
        self, key: str, fingerprint: Fingerprint, status: DeliveryStatus, done_file: DoneFile
    ) -> None:
        """Request the run of a file, or report its refusal."""
        cursor = self._cursor
        self._suspects.forget(key)
        if not done_file.awaits_model:
            cursor.waiting.pop(key, None)
        elif len(cursor.waiting) < MAX_WAITING:
            cursor.waiting.setdefault(key, self.now.date().isoformat())
        request = None if done_file.refusal else requested_run(fingerprint, status, done_file)
        is_made = (
            status is not DeliveryStatus.NEW and request is not None and self._has_run(str(request.run_key))
        )
        if request is not None and not is_made:
            self._requests.append(request)
            # The next tick remembers its fingerprint, once it sees that Dagster has made the run.
            cursor.requested[key] = RequestedRun(str(request.run_key), fingerprint)
            return
        cursor.fingerprints.add(key, fingerprint, self.now.date())
        if done_file.refusal is not None:
            self._show_refusal(done_file)

    def _show_refusal(self, done_file: DoneFile) -> None:
        word = "waiting" if done_file.awaits_model else "refused"
        key = escape_unprintable(done_file.key)
        self.context.log.error("The done file %s is %s: %s", key, word, done_file.refusal)
        self._refusals.append(f"{word.capitalize()}: {key}: {done_file.refusal}")
        self._events.append(refusal_event(done_file, self.partitions))

    def _log_error(self, key: str, error: Exception) -> None:
        message = escape_unprintable(f"The done file {key} cannot be processed yet: {error}")
        self.context.log.error("%s", message)
        self._errors.append(message)

    def _is_late(self) -> bool:
        return self.clock() - self._began > _MAX_SECONDS

    def _skip_reason(self) -> str:
        reasons = self._refusals + self._errors
        return "; ".join(reasons)[:_LONGEST_REASON] or "No new done files"


def _set_aside(key: str) -> DoneFile:
    return unread_done_file(
        key,
        f"{MAX_DEATHS} ticks of the sensor died while they parsed this file, so it is not parsed again. "
        "Check its size and content, and deliver a manifest that build_manifest has written. If something "
        f"else ended the ticks, run `mlpipe load {key}`",
    )


def in_parallel(function: Callable[[str], _Found], keys: Sequence[str]) -> list[_Found | Exception]:
    """Return each key's result or exception, computed in parallel."""
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as workers:
        return list(workers.map(partial(outcome, function), keys))


def outcome(function: Callable[[str], _Found], key: str) -> _Found | Exception:
    """Return what a function returns or raises for a key, so that one bad file does not stop the others."""
    try:
        return function(key)
    except Exception as error:  # noqa: BLE001  # the caller tells which error is whose
        return error
