"""Score jobs of one, two and four hosts are killed at random times and run again, with the same result."""

from __future__ import annotations

import logging
import random
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from deltalake import DeltaTable

from benchmarks.score_jobs import DAY, NEXT_DAY, TEN_COLUMNS, ScoreJobs, score_jobs
from infra.local.supervision.processes import is_alive, related_processes
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.s3_layout import done_key
from sagemaker_scripts.features import feature_writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from prediction_contract.jobs.job_arguments import ScoreArguments

ROWS, CHUNK_ROWS = 6_000, 250
_LOG = logging.getLogger(__name__)
_JOB_SECONDS = 300
_STOP_SECONDS = 20


@dataclass
class Hosts:
    """The running hosts of one job.

    Attributes:
        processes: The script's process on each host.
        logs: The log of each host.
    """

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)

    def any_process(self, chance: random.Random) -> psutil.Process | None:
        """Return a random running process of any host, or None if all have ended."""
        alive = [
            member
            for host in self.processes
            for member in (*_scripts(host), *related_processes(host.pid))
            if is_alive(member)
        ]
        return chance.choice(alive) if alive else None

    def wait(self, seconds: float) -> list[int]:
        """Wait for all hosts to end, and return their exit codes."""
        deadline = time.monotonic() + seconds
        return [host.wait(max(0.1, deadline - time.monotonic())) for host in self.processes]

    def stop(self) -> None:
        """Stop all hosts as SageMaker does: first terminate them, then kill the rest."""
        for host in self.processes:
            host.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.wait(_STOP_SECONDS)
        for host in self.processes:
            for member in (*_scripts(host), *related_processes(host.pid)):
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            host.wait()

    def said(self) -> str:
        """Return the end of each host's log."""
        return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in self.logs)


def _scripts(host: subprocess.Popen[bytes]) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        yield psutil.Process(host.pid)


class KilledBatches:
    """Batches whose jobs are killed and run again.

    Args:
        jobs: Runs the script.
        logs: The folder for the logs.
        chance: The source of all random choices.
    """

    def __init__(self, jobs: ScoreJobs, logs: Path, chance: random.Random) -> None:
        self._jobs = jobs
        self._logs = logs
        self._chance = chance
        self._batches = self._starts = 0
        self._seconds: dict[str, float] = {}
        self._whole: dict[str, Any] = {}
        # The second day is partitioned by key and joined with the first day's batch.
        for day, known in ((DAY, None), (NEXT_DAY, DAY)):
            jobs.prepare(TEN_COLUMNS, day, ROWS, known=known)
            arguments, began = self._next_batch(day), time.monotonic()
            hosts = self._start(arguments, 1)
            assert hosts.wait(_JOB_SECONDS) == [0], hosts.said()
            self._seconds[day] = time.monotonic() - began
            self._whole[day] = self._found(arguments)

    def kill_and_repeat(self) -> str | None:
        """Kill one process of a new batch's job, run the job again, compare; return what was killed."""
        chance, day = self._chance, self._chance.choice([DAY, NEXT_DAY])
        arguments, count = self._next_batch(day), chance.choice([1, 2, 4])
        killed = self._start(arguments, count)
        # Several hosts on few cores take longer.
        time.sleep(chance.uniform(0, self._seconds[day] * count))
        victim, kind = killed.any_process(chance), None
        if victim is not None:
            kind = "host" if victim.pid in {host.pid for host in killed.processes} else "process of a host"
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        leaves_others = chance.random() < 0.3
        if not leaves_others:
            killed.stop()
        began = time.monotonic()
        again = self._jobs.arguments(
            TEN_COLUMNS,
            day,
            str(arguments.batch_id),
            chunk_rows=CHUNK_ROWS,
            attempt=arguments.attempt + chance.choice([0, 1]),
        )
        repeated = self._start(again, count)
        try:
            assert set(repeated.wait(_JOB_SECONDS)) == {0}, f"{killed.said()}\n{repeated.said()}"
            done = self._jobs.store.get(done_key(TEN_COLUMNS, str(arguments.batch_id)))
            # The next job will take about as long as this one.
            self._seconds[day] = (time.monotonic() - began) / count
        finally:
            repeated.stop()
            if leaves_others:
                # The other hosts continue and find that they were overtaken.
                with suppress(subprocess.TimeoutExpired):
                    killed.wait(_STOP_SECONDS)
            killed.stop()
        assert self._jobs.store.get(done_key(TEN_COLUMNS, str(arguments.batch_id))) == done
        assert self._found(arguments) == self._whole[day]
        return kind

    def _next_batch(self, day: str) -> ScoreArguments:
        self._batches += 1
        batch_id = f"{day.replace('-', '')}T060000Z-{self._batches:08x}"
        return self._jobs.arguments(TEN_COLUMNS, day, batch_id, chunk_rows=CHUNK_ROWS)

    def _start(self, arguments: ScoreArguments, count: int) -> Hosts:
        self._starts += 1
        hosts = Hosts()
        for number in range(count):
            name = f"algo-{number + 1}"
            hosts.logs.append(self._logs / f"{self._starts}-{name}.log")
            hosts.processes.append(self._jobs.start(arguments, hosts.logs[-1], host=name, hosts=count))
        return hosts

    def _found(self, arguments: ScoreArguments) -> tuple[int, str, dict[str, str], pa.Table]:
        """Return a batch's row count, checksum, digests of the parts, and rows in the Delta table."""
        key = done_key(TEN_COLUMNS, str(arguments.batch_id))
        manifest = parse_manifest(self._jobs.store.get(key))
        validate(manifest, bucket=self._jobs.store.bucket, key=key)
        parts = {part.key.rpartition("/")[2]: part.sha256 for part in manifest.json_parts}
        return manifest.row_count, manifest.checksum, parts, self._rows_in_delta(manifest)

    def _rows_in_delta(self, manifest: Manifest) -> pa.Table:
        """Return a batch's rows in the newest table version, after checking the manifest's files."""
        uri = f"s3://{manifest.bucket}/{manifest.delta.table}"
        table = DeltaTable(uri, storage_options=self._jobs.environment)
        own = {path for path in table.get_add_actions()["path"].to_pylist() if manifest.batch_id in path}
        assert own == set(manifest.delta.files)
        rows = table.to_pyarrow_table(filters=[("batch_id", "=", manifest.batch_id)])
        assert rows.num_rows == manifest.row_count
        return rows.drop_columns("batch_id").sort_by("entity_id").combine_chunks()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "kills", [pytest.param(2, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.drill)]
)
def test_score_job_killed_at_random_times_can_be_repeated(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated job gives the same manifest and bytes, each row once, and no extra file in the table."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", CHUNK_ROWS)
    seed = random.randrange(2**32)
    _LOG.warning("seed %d", seed)
    with score_jobs() as jobs:
        batches = KilledBatches(jobs, tmp_path, random.Random(seed))
        killed: Counter[str] = Counter()
        for _ in range(2 * kills):
            if killed.total() == kills:
                break
            # A job that ended before it was killed does not count.
            killed.update(filter(None, [batches.kill_and_repeat()]))
    _LOG.warning("killed: %s", killed)
    assert killed.total() == kills
