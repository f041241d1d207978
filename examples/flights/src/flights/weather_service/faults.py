"""The faults that can be injected into the weather service."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Literal, get_args

Mode = Literal["none", "slow", "failing", "dead"]
LONGEST_SLOWNESS_SECONDS = 60.0
_FIELDS = {"none": set[str](), "slow": {"seconds"}, "failing": {"status"}, "dead": set[str]()}
_ERROR_STATUSES = frozenset({400, 401, 403, 404, 408, 409, 429, 500, 501, 502, 503, 504})


class InvalidFaultError(Exception):
    """A fault document is invalid."""


@dataclasses.dataclass(frozen=True, slots=True)
class WeatherFault:
    """A fault of the service.

    Args:
        mode: `slow` waits, `failing` answers with an error, `dead` closes the connection without an answer,
            `none` is no fault.
        seconds: How long `slow` waits.
        status: The HTTP status with which `failing` answers.
        count: The number of requests affected; `None` for all until the fault is replaced.
    """

    mode: Mode = "none"
    seconds: float = 0.0
    status: int = 503
    count: int | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the fault in the form that `parse_fault` reads."""
        document = {"mode": self.mode, **{name: getattr(self, name) for name in _FIELDS[self.mode]}}
        return document if self.count is None else {**document, "count": self.count}


def parse_fault(document: Any) -> WeatherFault:
    """Parse a fault such as `{"mode": "slow", "seconds": 2.5, "count": 3}`.

    Raises:
        InvalidFaultError: The mode or a field is unknown, or a field is missing or out of range.
    """
    if not isinstance(document, dict) or document.get("mode") not in get_args(Mode):
        raise InvalidFaultError(f'"mode" must be one of {", ".join(get_args(Mode))}')
    mode = document["mode"]
    needed = _FIELDS[mode]
    given = set(document) - {"mode", "count"}
    if given != needed:
        raise InvalidFaultError(
            f"{mode} takes {', '.join(needed) or 'no field'} in addition to mode and count"
        )
    count, seconds, status = document.get("count"), document.get("seconds", 0.0), document.get("status", 503)
    if count is not None and (type(count) is not int or count < 1):
        raise InvalidFaultError('"count" must be a whole number of at least 1')
    if type(seconds) not in {int, float} or not 0 <= seconds <= LONGEST_SLOWNESS_SECONDS:
        raise InvalidFaultError(f'"seconds" must be a number from 0 to {LONGEST_SLOWNESS_SECONDS:g}')
    if type(status) is not int or status not in _ERROR_STATUSES:
        raise InvalidFaultError(f'"status" must be one of {sorted(_ERROR_STATUSES)}')
    return WeatherFault(mode, float(seconds), status, count)


class FaultPlan:
    """The current fault, shared by all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault = WeatherFault()
        self._left: int | None = None

    def replace(self, fault: WeatherFault) -> None:
        """Replace the current fault."""
        with self._lock:
            self._fault = fault
            self._left = fault.count

    def next(self) -> WeatherFault:
        """Return the fault for the next request, and count the request."""
        with self._lock:
            if self._left is None:
                return self._fault
            if self._left == 0:
                return WeatherFault()
            self._left -= 1
            return self._fault
