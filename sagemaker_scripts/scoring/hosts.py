"""The hosts of a score job: which shares each works on, its progress, and whether it is alive."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.naming.s3_layout import progress_name
from sagemaker_scripts.container import ProcessingJob
from sagemaker_scripts.scoring.shares import Share

# Hosts of one job start minutes apart, because each pulls its image separately.
START_PATIENCE_SECONDS = 900.0
# A host reports every ten seconds, and S3 may be slow.
SILENCE_PATIENCE_SECONDS = 180.0
ENDED = "ended"
_LONGEST_ERROR = 500
_NAMED_SHARES = 5


class HostLostError(ContractError):
    """Another host of the job failed, or did not report in time."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job, from the point of view of one host.

    Attributes:
        own: This host's name.
        names: All hosts' names, in the same order on every host.
        job: The job's unique id; empty outside of a job.
    """

    own: str
    names: tuple[str, ...]
    job: str = ""

    @classmethod
    def of_job(cls, job: ProcessingJob | None) -> Self:
        """Return the hosts of a processing job; outside of a job, only this machine."""
        return cls("here", ("here",)) if job is None else cls(job.host, job.hosts, job.arn or job.name or "")

    @property
    def first(self) -> str:
        """The host that plans and commits."""
        return self.names[0]

    @property
    def is_first(self) -> bool:
        """Whether this host plans and commits."""
        return self.own == self.first

    @property
    def others(self) -> tuple[str, ...]:
        """The other hosts."""
        return tuple(name for name in self.names if name != self.own)

    def own_shares(self, shares: Sequence[Share]) -> tuple[Share, ...]:
        """Return this host's shares; they are consecutive, so that the host reads few files of features."""
        return self._shares_of(self.own, shares)

    def owners(self, shares: Sequence[Share], missing: Iterable[Share]) -> dict[str, list[Share]]:
        """Return the missing shares by the host that works on them."""
        owned = {share: name for name in self.names for share in self._shares_of(name, shares)}
        found: dict[str, list[Share]] = {}
        for share in missing:
            found.setdefault(owned[share], []).append(share)
        return found

    def _shares_of(self, name: str, shares: Sequence[Share]) -> tuple[Share, ...]:
        number, hosts = self.names.index(name), len(self.names)
        return tuple(shares[number * len(shares) // hosts : (number + 1) * len(shares) // hosts])


@dataclass(frozen=True)
class HostState:
    """The state that a host reports.

    Attributes:
        host: The host's name.
        step: The current step; `ended` once its shares are written.
        rows: The number of rows done in the step.
        beat: A text that makes every report different.
        error: The error if the host has failed; None otherwise.
        job: The id of the host's job.
    """

    host: str
    step: str
    rows: int
    beat: str
    error: str | None = None
    job: str = ""


class HostWatch:
    """Exchanges reports between hosts as objects below the attempt's prefix, and notes when each arrived.

    A report that existed before this watch began is ignored until it changes. Reports of another job are
    always ignored.

    Args:
        store: The bucket.
        prefix: The attempt's prefix.
        hosts: The job's hosts.
    """

    def __init__(self, store: ObjectStore, prefix: str, hosts: Hosts) -> None:
        self._store = store
        self._prefix = prefix
        self._hosts = hosts
        self._began = time.monotonic()
        self._last = {host: self._read(host) for host in hosts.others}
        self._seen: dict[str, tuple[float, HostState]] = {}

    def report_state(self, state: HostState) -> None:
        """Report this host's state to the other hosts."""
        document = {**asdict(state), "job": self._hosts.job}
        self._store.put(self._key(state.host), json.dumps(document).encode())

    def read_reports(self) -> dict[str, HostState]:
        """Return the newest report of each host that has reported since this watch began."""
        for host in self._hosts.others:
            content = self._read(host)
            if content is not None and content != self._last[host]:
                self._last[host] = content
                state = HostState(**json.loads(content))
                # Hosts of a stopped job may still report after the next job has begun.
                if state.job == self._hosts.job:
                    self._seen[host] = (time.monotonic(), state)
        return {host: state for host, (_, state) in self._seen.items()}

    def ended(self) -> frozenset[str]:
        """Return the hosts that have reported that all their shares are written."""
        return frozenset(host for host, (_, state) in list(self._seen.items()) if state.step == ENDED)

    def require_first(self) -> None:
        """Raise an error if the first host has failed, even if it failed before this watch began.

        Raises:
            HostLostError: The first host failed in this job.
        """
        first = self._hosts.first
        content = self._read(first)
        state = None if content is None else HostState(**json.loads(content))
        if state is not None and state.job == self._hosts.job and state.error is not None:
            raise HostLostError(
                f"The first host, {first}, failed: {state.error[:_LONGEST_ERROR]}",
                remedy=f"Read the log of {first}, then run the job again",
            )

    def any_lost(self, hosts: Iterable[str]) -> bool:
        """Return whether one of the hosts failed or did not report in time, even if it has no work left."""
        return any(self._loss_reason(host) is not None for host in hosts)

    def require_alive(
        self, missing_shares: Mapping[str, Collection[Share]], ended: Collection[str] = frozenset()
    ) -> None:
        """Raise an error if hosts with missing shares failed or did not report in time.

        Args:
            missing_shares: The missing shares by the host's name.
            ended: The hosts that had ended before these shares were found to be missing.

        Raises:
            HostLostError: A host failed, ended without its shares, or did not report in time.
        """
        lost = []
        for host, shares in missing_shares.items():
            loss = "ended without writing all its shares" if host in ended else self._loss_reason(host)
            if loss is not None:
                named = [share.name for share in list(shares)[:_NAMED_SHARES]]
                missing_text = (
                    f" ({len(shares)} shares are missing, including {', '.join(named)})" if named else ""
                )
                lost.append(f"{host} {loss}{missing_text}")
        if lost:
            raise HostLostError(
                f"Hosts of the job are lost: {'; '.join(lost)}",
                remedy="Read the logs of these hosts, then run the job again",
            )

    def _loss_reason(self, host: str) -> str | None:
        now = time.monotonic()
        if host not in self._seen:
            waited = now - self._began
            return f"did not start within {waited:.0f} s" if waited > START_PATIENCE_SECONDS else None
        at, state = self._seen[host]
        if state.error is not None:
            return f"failed: {state.error[:_LONGEST_ERROR]}"
        if state.step != ENDED and now - at > SILENCE_PATIENCE_SECONDS:
            return f"has not reported for {now - at:.0f} s"
        return None

    def _read(self, host: str) -> bytes | None:
        return self._store.find(self._key(host))

    def _key(self, host: str) -> str:
        return f"{self._prefix}{progress_name(host)}"
