"""Faults on demand: throttling, failures, slow and lost answers, failing job runs, lost events."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_EFFECTS_OF_CALLS = ("error", "latency_seconds", "lost_answer", "ends_as")
_EFFECTS_OF_EVENTS = ("dropped", "doubled", "latency_seconds")
_EFFECTS = tuple(dict.fromkeys((*_EFFECTS_OF_CALLS, *_EFFECTS_OF_EVENTS)))
_MEMBERS = {"service", "operation", *_EFFECTS, "count"}
# The request member for a job run's forced end. No real request has a member of this name.
ENDS_AS = "<ends_as>"
# SageMaker's messages for jobs that fail through no fault of the script, by the prefix of the failure reason.
JOB_FAILURES = {
    "InternalServerError": "We encountered an internal error. Please try again.",
    "CapacityError": "Unable to provision requested ML compute capacity. Please retry later.",
}
# The ways in which a job may end before its script begins, by the operation that starts it.
_FATES = {
    ("glue", "StartJobRun"): ("EXPIRED", "ERROR", "TIMEOUT", "STOPPED"),
    ("sagemaker", "CreateProcessingJob"): tuple(JOB_FAILURES),
    ("sagemaker", "CreateTrainingJob"): tuple(JOB_FAILURES),
}
_COMMON_ERRORS = {"ThrottlingException": 400, "InternalFailure": 500, "ServiceUnavailableException": 503}
_MAX_COUNT = 1000
_MAX_LATENCY_SECONDS = 600


@dataclass
class CallFault:
    """A rule for the next `count` calls of an operation, or for the next events of a type.

    Args:
        service: `glue` or `sagemaker`; `events` for SageMaker's events.
        operation: The operation's name in the service model; for events the detail type.
        error: Answer with this error code, without carrying out the operation.
        latency_seconds: Delay the answer or the event by this time; later events are not delayed.
        lost_answer: Carry out the operation, then close the connection without an answer.
        ends_as: End the started job before its script begins; the Glue state or the SageMaker failure reason
            that it gets.
        dropped: Do not send the event.
        doubled: Send the event twice.
        count: The number of remaining calls.
        fired: The number of affected calls.
    """

    service: str
    operation: str
    error: str | None = None
    latency_seconds: float | None = None
    lost_answer: bool = False
    ends_as: str | None = None
    dropped: bool = False
    doubled: bool = False
    count: int = 1
    fired: int = field(default=0)

    @property
    def status(self) -> int:
        """HTTP status of the error."""
        return _COMMON_ERRORS.get(self.error or "", 400)


class FaultBook:
    """All rules with their counts, in memory only."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, frozenset[str]]] = {}
        self._events: dict[str, frozenset[str]] = {}
        self._faults: list[CallFault] = []
        self._lock = threading.Lock()

    def allow_calls(self, service: str, errors: Mapping[str, Collection[str]]) -> None:
        """Let `add` accept faults of a service's operations.

        Args:
            service: botocore's name of the service.
            errors: The modelled errors by operation.
        """
        self._calls[service] = {name: frozenset(codes) for name, codes in errors.items()}

    def allow_events(self, source: str, detail_types: Collection[str]) -> None:
        """Let `add` accept faults of events.

        Args:
            source: The service name in these faults.
            detail_types: The operation names in these faults.
        """
        self._events[source] = frozenset(detail_types)

    def add(self, document: Any) -> CallFault:
        """Add a rule.

        Raises:
            ValueError: The rule is malformed, so it would not fire as intended.
        """
        if not isinstance(document, dict) or set(document) - _MEMBERS:
            raise ValueError(f"a fault is an object whose members are among {sorted(_MEMBERS)}")
        service, operation = str(document.get("service")), str(document.get("operation"))
        is_event = operation in self._events.get(service, ())
        if not is_event and operation not in self._calls.get(service, ()):
            raise ValueError(f"unknown service or operation: {service} {operation}")
        possible = _EFFECTS_OF_EVENTS if is_event else _EFFECTS_OF_CALLS
        effects = [name for name in _EFFECTS if name in document]
        if len(effects) != 1 or effects[0] not in possible:
            raise ValueError(f"a fault must have exactly one of {', '.join(possible)}")
        count = document.get("count", 1)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MAX_COUNT:
            raise ValueError(f"count must be an integer from 1 to {_MAX_COUNT}")
        self._check_effect(effects[0], document[effects[0]], (service, operation))
        fault = CallFault(**document)
        with self._lock:
            self._faults.append(fault)
        return fault

    def _check_effect(self, effect: str, value: Any, operation: tuple[str, str]) -> None:
        service, name = operation
        if effect == "error":
            known = {*_COMMON_ERRORS, *self._calls[service][name]}
            if value not in known:
                raise ValueError(f"error must be one of {sorted(known)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if effect == "latency_seconds" and not (is_number and 0 < value <= _MAX_LATENCY_SECONDS):
            raise ValueError(f"latency_seconds must be a number up to {_MAX_LATENCY_SECONDS}")
        if effect in {"lost_answer", "dropped", "doubled"} and value is not True:
            raise ValueError(f"{effect} must be true")
        if effect == "ends_as" and value not in _FATES.get(operation, ()):
            fates = {" ".join(starts): ends for starts, ends in _FATES.items()}
            raise ValueError(f"ends_as is not possible for this operation; possible are: {fates}")

    def take(self, service: str, operation: str) -> CallFault | None:
        """Return the oldest rule that applies to this call, and count the call; None if no rule applies."""
        with self._lock:
            for fault in self._faults:
                if (fault.service, fault.operation) == (service, operation) and fault.count > 0:
                    fault.count -= 1
                    fault.fired += 1
                    return fault
        return None

    def listed(self) -> list[dict[str, Any]]:
        """Return all rules with their remaining and past calls."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._faults.clear()
