"""The trouble that the weather service can be told to be in."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Literal, get_args

Mode = Literal["none", "slow", "failing", "dead"]
LONGEST_SLOWNESS_SECONDS = 60.0
_FIELDS = {"none": set[str](), "slow": {"seconds"}, "failing": {"status"}, "dead": set[str]()}
_ERROR_STATUSES = frozenset({400, 401, 403, 404, 408, 409, 429, 500, 501, 502, 503, 504})


class InvalidFaultError(Exception):
    """An order that the service cannot follow."""


@dataclasses.dataclass(frozen=True, slots=True)
class WeatherFault:
    """One kind of trouble.

    Args:
        mode: `slow` waits, `failing` answers with an error, `dead` closes the connection unanswered.
        seconds: How long `slow` waits.
        status: What `failing` answers.
        count: For how many requests, or `None` until another order.
    """

    mode: Mode = "none"
    seconds: float = 0.0
    status: int = 503
    count: int | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the order that this fault was."""
        document = {"mode": self.mode, **{name: getattr(self, name) for name in _FIELDS[self.mode]}}
        return document if self.count is None else {**document, "count": self.count}


def parse_fault(document: Any) -> WeatherFault:
    """Parse an order such as `{"mode": "slow", "seconds": 2.5, "count": 3}`.

    Raises:
        InvalidFaultError: The mode is unknown, or a field is missing, foreign or out of range.
    """
    if not isinstance(document, dict) or document.get("mode") not in get_args(Mode):
        raise InvalidFaultError(f'"mode" must be one of {", ".join(get_args(Mode))}')
    mode = document["mode"]
    needed = _FIELDS[mode]
    given = set(document) - {"mode", "count"}
    if given != needed:
        raise InvalidFaultError(f"{mode} takes {', '.join(needed) or 'no field'} beside mode and count")
    count, seconds, status = document.get("count"), document.get("seconds", 0.0), document.get("status", 503)
    if count is not None and (type(count) is not int or count < 1):
        raise InvalidFaultError('"count" must be a whole number of at least 1')
    if type(seconds) not in {int, float} or not 0 <= seconds <= LONGEST_SLOWNESS_SECONDS:
        raise InvalidFaultError(f'"seconds" must be a number from 0 to {LONGEST_SLOWNESS_SECONDS:g}')
    if type(status) is not int or status not in _ERROR_STATUSES:
        raise InvalidFaultError(f'"status" must be one of {sorted(_ERROR_STATUSES)}')
    return WeatherFault(mode, float(seconds), status, count)


class FaultPlan:
    """The order in force, shared by all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault = WeatherFault()
        self._left: int | None = None

    def order(self, fault: WeatherFault) -> None:
        """Put an order in force instead of the one before."""
        with self._lock:
            self._fault = fault
            self._left = fault.count

    def next(self) -> WeatherFault:
        """Return the trouble that the next request meets, and count it."""
        with self._lock:
            if self._left is None:
                return self._fault
            if self._left == 0:
                return WeatherFault()
            self._left -= 1
            return self._fault
