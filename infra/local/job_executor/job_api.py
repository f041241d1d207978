"""Shared parts of Glue's and SageMaker's operations: records, the job's role, pages of a list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.aws_access import RoleUnusableError
from infra.local.job_executor.json_protocol import ApiError

if TYPE_CHECKING:
    from infra.local.job_executor.aws_access import AwsAccess
    from infra.local.job_executor.executor_settings import ExecutorSettings
    from infra.local.job_executor.jobs.job_store import Record, RecordStore

Request = dict[str, Any]
Operation = Callable[[Request], dict[str, Any]]


@dataclass(frozen=True)
class RecordApi:
    """Operations on durable records; each takes a validated request and returns an answer.

    Args:
        settings: The executor's settings.
        store: The durable records.
    """

    settings: ExecutorSettings
    store: RecordStore

    # The error code for requests that the service refuses.
    refusal: ClassVar[str]

    def answer_page(
        self,
        records: list[Record],
        request: Request,
        *,
        key: str,
        size: int,
        member: str,
        show: Callable[[Record], dict[str, Any]],
    ) -> dict[str, Any]:
        """Answer a list request with one page and the token of the next.

        Args:
            records: All records in their final order.
            request: The request, with optional `NextToken` and `MaxResults`.
            key: The member of a record with its unique name.
            size: Records per page, if the request does not set it.
            member: The answer's member that lists the records.
            show: Returns a record in the answer's form.

        Raises:
            ApiError: The token was not issued by this executor, or its record is gone.
        """
        try:
            names = [record[key] for record in records]
            found, token = page(names, token=request.get("NextToken"), size=request.get("MaxResults", size))
        except ValueError as error:
            raise ApiError(self.refusal, f"NextToken: {error}.") from error
        answer: dict[str, Any] = {member: [show(records[number]) for number in found]}
        return answer if token is None else answer | {"NextToken": token}


@dataclass(frozen=True)
class RoleApi(RecordApi):
    """Operations that take a role for their work.

    Args:
        access: Access to roles.
    """

    access: AwsAccess

    def require_role(self, role_arn: str, principal: str, message: str) -> None:
        """Refuse a role that the service cannot assume.

        Args:
            role_arn: The role.
            principal: The service.
            message: AWS's message for the refusal.

        Raises:
            ApiError: The role cannot be assumed.
        """
        try:
            self.access.check_role(role_arn, principal)
        except RoleUnusableError as error:
            raise ApiError(self.refusal, f"{message} ({error})") from error


@dataclass(frozen=True)
class JobApi(RoleApi):
    """Operations that start jobs.

    Args:
        start: Passes a recorded job to the runner.
    """

    start: Callable[[str, str], None]


def page(names: list[str], *, token: str | None, size: int) -> tuple[range, str | None]:
    """Return the positions of one page and the token of the next, which stays valid when records are added.

    Args:
        names: The unique names of all records in their final order.
        token: The caller's token; None for the first page.
        size: Records per page.

    Raises:
        ValueError: The token was not issued by this function, or its record is gone.
    """
    start = 0
    if token:
        try:
            last = base64.urlsafe_b64decode(token.encode()).decode()
        except (binascii.Error, UnicodeError) as error:
            raise ValueError("the token is malformed") from error
        if last not in names:
            raise ValueError("the token is unknown")
        start = names.index(last) + 1
    end = min(start + size, len(names))
    if end == len(names):
        return range(start, end), None
    return range(start, end), base64.urlsafe_b64encode(names[end - 1].encode()).decode()
