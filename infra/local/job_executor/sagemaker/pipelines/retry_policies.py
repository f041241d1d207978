"""Retry policies of steps: the retried failures, the number of retries and the pauses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

THROTTLING, SERVICE_FAULT = "Step.THROTTLING", "Step.SERVICE_FAULT"
INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"
CAPACITY_ERROR = "SageMaker.CAPACITY_ERROR"
RESOURCE_LIMIT = "SageMaker.RESOURCE_LIMIT"
_KINDS = {THROTTLING, SERVICE_FAULT, INTERNAL_ERROR, CAPACITY_ERROR, RESOURCE_LIMIT}
_MEMBERS = {"ExceptionType", "IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin"}
_MAX_INTERVAL_SECONDS, _MAX_ATTEMPTS, _MAX_EXPIRY_MINUTES = 43_200, 20, 14_400


class RetryPolicyError(ValueError):
    """A retry policy has a form that SageMaker refuses."""


@dataclass(frozen=True)
class RetryPolicy:
    """A retry policy.

    Args:
        kinds: The failures to retry.
        interval_seconds: The pause before the first retry.
        backoff: The factor by which each pause is longer than the last.
        max_attempts: The maximum number of retries; None if only time limits them.
        expire_minutes: The time after the step's start during which it is retried; None for no limit.
    """

    kinds: frozenset[str]
    interval_seconds: float = 1
    backoff: float = 2.0
    max_attempts: int | None = 5
    expire_minutes: float | None = None

    def pause(self, repetitions: int, age_minutes: float) -> float | None:
        """Return the seconds to the next retry, or None if there is none.

        Args:
            repetitions: The number of retries by this policy so far.
            age_minutes: The time since the step began.
        """
        if self.max_attempts is not None and repetitions >= self.max_attempts:
            return None
        if self.expire_minutes is not None and age_minutes >= self.expire_minutes:
            return None
        return self.interval_seconds * self.backoff**repetitions


# SageMaker retries these failures without a policy.
DEFAULT_POLICY = RetryPolicy(frozenset({THROTTLING, SERVICE_FAULT}))


def read_policies(documents: Any, what: str) -> tuple[RetryPolicy, ...]:
    """Read a step's policies.

    Raises:
        RetryPolicyError: A policy is malformed.
    """
    if not isinstance(documents, list):
        raise RetryPolicyError(f"RetryPolicies of {what} must be a list")
    return tuple(_read(document, what) for document in documents)


def _read(document: Any, what: str) -> RetryPolicy:
    if not isinstance(document, dict) or set(document) - _MEMBERS:
        raise RetryPolicyError(f"a retry policy of {what} may only have the members {sorted(_MEMBERS)}")
    kinds = document.get("ExceptionType")
    if not isinstance(kinds, list) or not kinds or set(kinds) - _KINDS:
        raise RetryPolicyError(f"ExceptionType of a retry policy of {what} must be among {sorted(_KINDS)}")
    if "MaxAttempts" in document and "ExpireAfterMin" in document:
        raise RetryPolicyError(
            f"a retry policy of {what} has both MaxAttempts and ExpireAfterMin: remove one"
        )
    interval = _number(document, "IntervalSeconds", 1, _MAX_INTERVAL_SECONDS, what)
    attempts = _number(document, "MaxAttempts", 0, _MAX_ATTEMPTS, what)
    expiry = _number(document, "ExpireAfterMin", 1, _MAX_EXPIRY_MINUTES, what)
    backoff = _number(document, "BackoffRate", 1, float("inf"), what)
    return RetryPolicy(
        frozenset(kinds),
        interval_seconds=1 if interval is None else interval,
        backoff=2.0 if backoff is None else backoff,
        max_attempts=5
        if attempts is None and expiry is None
        else (None if attempts is None else int(attempts)),
        expire_minutes=expiry,
    )


def _number(document: dict[str, Any], member: str, least: float, most: float, what: str) -> float | None:
    value = document.get(member)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RetryPolicyError(
            f"{member} of a retry policy of {what} must be {least} to {most}, not {value!r}"
        )
    return value
