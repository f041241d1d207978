"""Takes every job through its phases, one thread per job. A restart can continue from any phase."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.jobs.host_processes import HostProcesses, cpu_share, job_environment
from infra.local.job_executor.jobs.job_records import (
    Ending,
    HostWorkspace,
    JobExecutionError,
    JobOutcome,
    Phase,
)
from infra.local.job_executor.jobs.log_shipping import LogShipper
from infra.local.job_executor.jobs.s3_transfer import S3Transfer

if TYPE_CHECKING:
    from infra.local.job_executor.aws_access import AwsAccess, AwsCredentials
    from infra.local.job_executor.executor_settings import ExecutorSettings
    from infra.local.job_executor.jobs.job_records import HostCommand, LogFile
    from infra.local.job_executor.jobs.job_store import Record, RecordStore

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
_SHIP_SECONDS = 1.0
_FINAL_SHIP_SECONDS = 60.0
_SHUTDOWN_GRACE_SECONDS = 5.0
_OUTCOMES = {
    Ending.STOP: JobOutcome.STOPPED,
    Ending.TIMEOUT: JobOutcome.TIMED_OUT,
    Ending.EXPIRY: JobOutcome.EXPIRED,
    Ending.ERROR: JobOutcome.ERROR,
}
SHUTDOWN_MESSAGE = "The job was stopped because the local job executor was shut down. Start the job again."


class _ShuttingDownError(Exception):
    """The executor is shutting down before the job was launched."""


class JobKind(Protocol):
    """One kind of job: its preparation, logs, uploads and reported end."""

    record_kind: str
    principal: str
    session_name: str

    def grace_seconds(self, stop_grace_seconds: float) -> float:
        """Return the time between SIGTERM and SIGKILL."""
        ...

    def prepare(self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer) -> list[HostCommand]:
        """Download the script and its inputs, and return one command per host."""
        ...

    def log_files(self, record: Record, host: HostWorkspace) -> list[LogFile]:
        """Return a host's output files with their log streams."""
        ...

    def collect(
        self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer, outcome: JobOutcome
    ) -> None:
        """Upload a job's results; safe to repeat."""
        ...

    def describe_end(self, record: Record, hosts: list[HostWorkspace]) -> dict[str, Any]:
        """Return details from the job's files: `failure` of a failed job, `exit_message`, `metrics`."""
        ...

    def enter(self, record: Record, phase: Phase, outcome: JobOutcome | None, now: float) -> None:
        """Set the service's state in the record for a new phase."""
        ...


class JobRunner:
    """Runs jobs, continues those of a killed executor, and ends all at a shutdown.

    Args:
        settings: The executor's settings.
        store: The durable records.
        access: Access to clients and roles.
        kinds: The kinds of job by record kind.
        own_url: The executor's address, for the jobs' environment.
        private_mounts: Whether each process can have a private `/opt/ml`.
    """

    def __init__(
        self,
        *,
        settings: ExecutorSettings,
        store: RecordStore,
        access: AwsAccess,
        kinds: list[JobKind],
        own_url: str,
        private_mounts: bool,
    ) -> None:
        self._settings = settings
        self._store = store
        self._access = access
        self._kinds = {kind.record_kind: kind for kind in kinds}
        self._own_url = own_url
        self._private_mounts = private_mounts
        self._shutdown = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, record_kind: str, name: str) -> None:
        """Start or continue a recorded job."""
        thread = threading.Thread(
            target=self._run, args=(self._kinds[record_kind], name), name=name, daemon=True
        )
        self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        thread.start()

    def resume(self) -> int:
        """Continue every job that has not ended, and return their number."""
        open_jobs = [
            (kind, record["name"])
            for kind in self._kinds
            for record in self._store.all(kind)
            if record["phase"] != Phase.ENDED
        ]
        for kind, name in open_jobs:
            self.start(kind, name)
        return len(open_jobs)

    def shut_down(self, deadline_seconds: float) -> bool:
        """End every running job and record that; return False if a thread did not end in time."""
        self._shutdown.set()
        deadline = time.monotonic() + deadline_seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, kind: JobKind, name: str) -> None:
        try:
            self._drive(kind, name)
        except _ShuttingDownError:
            self._conclude(kind, name, JobOutcome.FAILED, {"failure": SHUTDOWN_MESSAGE})
        except (JobExecutionError, BotoCoreError, ClientError) as error:
            _LOG.warning("%s cannot run: %s", name, error)
            self._conclude(kind, name, JobOutcome.FAILED, {"failure": str(error)})
        except Exception as error:  # noqa: BLE001 - a boundary, see below
            # The boundary of a thread: after any error the client must see the job end and not wait for ever.
            _LOG.exception("the executor failed on %s", name)
            self._conclude(
                kind, name, JobOutcome.FAILED, {"failure": f"InternalServerError: job executor: {error!r}"}
            )

    def _drive(self, kind: JobKind, name: str) -> None:
        record = self._record(kind, name)
        hosts = self._hosts(kind, record)
        credentials: AwsCredentials | None = None
        if record["phase"] == Phase.PREPARING:
            credentials = self._access.assume(record["role_arn"], kind.session_name)
            record = self._prepare(kind, record, hosts, credentials)
        if record["phase"] == Phase.LAUNCHED:
            processes = HostProcesses(hosts)
            if record["ending"] is not None and processes.none_started():
                processes.abandon()
                self._conclude(kind, name, self._outcome(record), {})
                return
            record = self._execute(kind, record, hosts, processes, credentials)
        if record["phase"] == Phase.FINISHING:
            self._finish(kind, record, hosts)

    def _prepare(
        self, kind: JobKind, record: Record, hosts: list[HostWorkspace], credentials: AwsCredentials
    ) -> Record:
        self._enter(kind, record["name"], Phase.PREPARING)
        for host in hosts:
            host.reset()
        commands = kind.prepare(record, hosts, S3Transfer(self._access.client("s3", credentials)))
        for host, command in zip(hosts, commands, strict=True):
            mount = {"source": str(host.ml), "target": "/opt/ml"} if command.private_ml else None
            spec = {
                "argv": command.argv,
                "directory": command.directory,
                "stdout": str(host.stdout),
                "stderr": str(host.stdout if command.one_output else host.stderr),
                "environment": command.environment,
                "mount": mount,
                "grace_seconds": kind.grace_seconds(self._settings.stop_grace_seconds),
                # As on SageMaker, the first host may start after the others.
                "delay_seconds": self._settings.host_stagger_seconds * (len(hosts) - host.number),
                "cpus": cpu_share(host.number, len(hosts)),
            }
            (host.home / "spec.json").write_text(json.dumps(spec))
        if self._shutdown.is_set():
            raise _ShuttingDownError
        return self._enter(kind, record["name"], Phase.LAUNCHED, running_at=time.time())

    def _execute(
        self,
        kind: JobKind,
        record: Record,
        hosts: list[HostWorkspace],
        processes: HostProcesses,
        credentials: AwsCredentials | None,
    ) -> Record:
        """Start or adopt the processes and watch them until they end."""

        def environment(host: HostWorkspace) -> dict[str, str]:
            identity = credentials or self._access.assume(record["role_arn"], kind.session_name)
            return job_environment(self._settings, identity, own_url=self._own_url, host=host)

        processes.launch(environment)
        logs_client = self._access.client("logs", attempts=1)
        shippers = [
            LogShipper(logs_client, file.path, group=file.group, stream=file.stream)
            for host in hosts
            for file in kind.log_files(record, host)
        ]
        shipped_at = 0.0
        while not processes.all_ended():
            record = self._watch(kind, record, processes)
            if time.monotonic() - shipped_at >= _SHIP_SECONDS:
                for shipper in shippers:
                    shipper.ship(seconds=_SHIP_SECONDS)
                shipped_at = time.monotonic()
            # At a shutdown the event stays set, so waiting for it would not pause.
            if self._shutdown.is_set():
                time.sleep(_POLL_SECONDS)
            else:
                self._shutdown.wait(_POLL_SECONDS)
        self._ship_rest(shippers)
        codes = processes.returncodes()
        return self._enter(
            kind, record["name"], Phase.FINISHING, returncodes=codes, script_ended_at=time.time()
        )

    def _watch(self, kind: JobKind, record: Record, processes: HostProcesses) -> Record:
        """Check one job: stop it if it was asked to end, exceeded its time or lost a host."""
        record = self._record(kind, record["name"])
        if self._shutdown.is_set():
            record = self._set_ending(kind, record, Ending.SHUTDOWN)
        elif time.time() - record["running_at"] > record["limit_seconds"]:
            record = self._set_ending(kind, record, Ending.TIMEOUT)
        if record["ending"] is not None or processes.any_failed():
            processes.terminate()
        if self._shutdown.is_set():
            processes.kill_after(_SHUTDOWN_GRACE_SECONDS)
        return record

    def _set_ending(self, kind: JobKind, record: Record, ending: Ending) -> Record:
        """Record why the job is ended, unless a reason is recorded already."""
        if record["ending"] is not None:
            return record

        def change(current: Record) -> None:
            current["ending"] = current["ending"] or ending

        return self._store.update(kind.record_kind, record["name"], change)

    def _ship_rest(self, shippers: list[LogShipper]) -> None:
        """Ship the rest of the logs before the job's end becomes visible."""
        allowed = _SHUTDOWN_GRACE_SECONDS if self._shutdown.is_set() else _FINAL_SHIP_SECONDS
        deadline = time.monotonic() + allowed
        for shipper in shippers:
            while not shipper.ship(final=True, seconds=deadline - time.monotonic()):
                if time.monotonic() > deadline:
                    _LOG.error(
                        "logs could not be sent to CloudWatch Logs within %.0f s; the rest is in the state "
                        "directory",
                        allowed,
                    )
                    return
                time.sleep(_POLL_SECONDS)

    def _finish(self, kind: JobKind, record: Record, hosts: list[HostWorkspace]) -> None:
        outcome = self._outcome(record)
        described = kind.describe_end(record, hosts)
        if record["ending"] == Ending.SHUTDOWN:
            described["failure"] = SHUTDOWN_MESSAGE
        else:
            # The credentials from the job's start may have expired.
            identity = self._access.assume(record["role_arn"], kind.session_name)
            kind.collect(record, hosts, S3Transfer(self._access.client("s3", identity)), outcome)
        if outcome is not JobOutcome.FAILED:
            described.pop("failure", None)
        self._conclude(kind, record["name"], outcome, described)

    def _outcome(self, record: Record) -> JobOutcome:
        ending = record["ending"]
        if ending in _OUTCOMES:
            return _OUTCOMES[ending]
        succeeded = ending is None and all(code == 0 for code in record.get("returncodes") or [1])
        return JobOutcome.SUCCEEDED if succeeded else JobOutcome.FAILED

    def _conclude(self, kind: JobKind, name: str, outcome: JobOutcome, described: dict[str, Any]) -> None:
        record = self._enter(kind, name, Phase.ENDED, outcome=outcome, **described)
        for host in self._hosts(kind, record):
            host.discard_data()

    def _enter(
        self, kind: JobKind, name: str, phase: Phase, *, outcome: JobOutcome | None = None, **changes: Any
    ) -> Record:
        def change(record: Record) -> None:
            now = time.time()
            record.update(changes, phase=phase, modified_at=now)
            kind.enter(record, phase, outcome, now)

        return self._store.update(kind.record_kind, name, change)

    def _record(self, kind: JobKind, name: str) -> Record:
        record = self._store.get(kind.record_kind, name)
        if record is None:
            raise JobExecutionError(f"InternalServerError: the record of {name} is missing.")
        return record

    def _hosts(self, kind: JobKind, record: Record) -> list[HostWorkspace]:
        home = self._settings.state_dir / "jobs" / f"{kind.record_kind}-{record['name']}"
        mounts = self._private_mounts and kind.record_kind != "glue_run"
        return [
            HostWorkspace(home / f"host-{number}", number, mounts)
            for number in range(1, record["host_count"] + 1)
        ]
