"""Errors of the executor: those that clients receive, and those that stop it or a job."""

from __future__ import annotations


class ApiError(Exception):
    """An answer that is an error, with AWS's code.

    Args:
        code: The modelled or common error code, say `EntityNotFoundException`.
        message: AWS's message for it.
        status: HTTP status: 400 for the caller's faults, 500 for the service's.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")


class StateCorruptError(Exception):
    """The durable state cannot be read; nothing is replaced, a person decides."""


class JobExecutionError(Exception):
    """A job cannot start or its results cannot be stored; the message becomes its failure reason."""


class ShuttingDownError(Exception):
    """The executor ends before the job was launched."""
