"""The executor's access to the AWS emulator, and the credentials of jobs."""

from __future__ import annotations

import json
import logging
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.executor_settings import ACCOUNT_ID

if TYPE_CHECKING:
    from infra.local.job_executor.executor_settings import ExecutorSettings

_LOG = logging.getLogger(__name__)

# The access key that signed the current thread's request.
CALLER_KEY: ContextVar[str | None] = ContextVar("caller_key", default=None)


class RoleUnusableError(Exception):
    """The role does not exist, or its trust policy does not let the service assume it."""


@dataclass(frozen=True, kw_only=True)
class AwsCredentials:
    """The keys of one identity."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class AwsAccess:
    """Clients of the emulator, for the executor itself or for a job's role.

    Args:
        settings: Endpoint, region and the executor's own keys.
    """

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._own = AwsCredentials(
            access_key_id=settings.access_key_id, secret_access_key=settings.secret_access_key
        )
        # boto3 sessions are not thread-safe while they create clients.
        self._lock = threading.Lock()
        self._session = Session()
        # Clients are thread-safe, and slow to create.
        self._clients: dict[tuple[str, int, int], Any] = {}
        self._arn_by_key: dict[str, str] = {settings.access_key_id: f"arn:aws:iam::{ACCOUNT_ID}:root"}

    def client(
        self,
        service: str,
        credentials: AwsCredentials | None = None,
        *,
        attempts: int = 5,
        read_seconds: int = 60,
    ) -> Any:
        """Return a client of the emulator.

        Args:
            service: botocore's name of the service.
            credentials: The client's credentials; by default the executor's own.
            attempts: How often a request is sent at most; 1 for no retries.
            read_seconds: The time limit for an answer.
        """
        if credentials is not None:
            with self._lock:
                return self._made(service, credentials, attempts, read_seconds)
        wanted = (service, attempts, read_seconds)
        with self._lock:
            if wanted not in self._clients:
                self._clients[wanted] = self._made(service, self._own, attempts, read_seconds)
            return self._clients[wanted]

    def _made(self, service: str, identity: AwsCredentials, attempts: int, read_seconds: int) -> Any:
        return self._session.client(
            service,
            region_name=self._settings.region,
            endpoint_url=self._settings.aws_endpoint_url,
            aws_access_key_id=identity.access_key_id,
            aws_secret_access_key=identity.secret_access_key,
            aws_session_token=identity.session_token,
            config=Config(
                connect_timeout=5,
                read_timeout=read_seconds,
                retries={"mode": "standard", "total_max_attempts": attempts},
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )

    def role_arn(self, role: str) -> str:
        """Return the ARN of a role given by name or ARN, as Glue accepts either."""
        return role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT_ID}:role/{role}"

    def check_role(self, role_arn: str, principal: str) -> None:
        """Check that a service may assume a role, as AWS does before it accepts a job.

        The emulator lets its root key assume any role, even one that does not exist.

        Raises:
            RoleUnusableError: The service may not.
        """
        name = role_arn.rsplit("/", 1)[-1]
        try:
            role = self.client("iam").get_role(RoleName=name)["Role"]
        except (BotoCoreError, ClientError) as error:
            raise RoleUnusableError(f"{role_arn} cannot be read: {error}") from error
        if role["Arn"] != role_arn:
            raise RoleUnusableError(f"{role_arn} does not exist; the role with that name is {role['Arn']}")
        if not any(
            _trusts(item, principal) for item in _list(role["AssumeRolePolicyDocument"].get("Statement"))
        ):
            raise RoleUnusableError(f"the trust policy of {role_arn} does not name {principal}")

    def allows(self, role_arn: str, action: str, resource: str, *, service: str) -> bool:
        """Return whether a role's policies allow an action, according to the emulator's policy simulation.

        The simulation does not support `iam:PassedToService`, so that condition is evaluated beforehand.

        Args:
            role_arn: The role.
            action: The action, such as `iam:PassRole`.
            resource: The ARN of the resource.
            service: The service to which a role is passed.
        """
        iam, name = self.client("iam"), role_arn.rsplit("/", 1)[-1]
        documents = [
            iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        statements = [each for document in documents for each in _list(document.get("Statement"))]
        policy = {"Version": "2012-10-17", "Statement": _with_service(statements, service)}
        judged = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(policy)], ActionNames=[action], ResourceArns=[resource]
        )
        return judged["EvaluationResults"][0]["EvalDecision"] == "allowed"

    def caller_arn(self) -> str | None:
        """Return the ARN of the current request's signer: the root user or a role assumed here; else None."""
        key = CALLER_KEY.get()
        return None if key is None else self._arn_by_key.get(key)

    def assume(self, role_arn: str, session_name: str) -> AwsCredentials:
        """Return the credentials of a role for one job; they last as long as the role's sessions."""
        answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=session_name)["Credentials"]
        _LOG.info("access key %s acts as %s", answer["AccessKeyId"], role_arn)
        self._arn_by_key[answer["AccessKeyId"]] = role_arn
        return AwsCredentials(
            access_key_id=answer["AccessKeyId"],
            secret_access_key=answer["SecretAccessKey"],
            session_token=answer["SessionToken"],
        )


def _trusts(statement: dict[str, Any], principal: str) -> bool:
    who = statement.get("Principal")
    services = _list(who.get("Service")) if isinstance(who, dict) else []
    return (
        statement.get("Effect") == "Allow"
        and "sts:AssumeRole" in _list(statement.get("Action"))
        and (who == "*" or principal in services)
    )


def _with_service(statements: list[dict[str, Any]], service: str) -> list[dict[str, Any]]:
    """Return the statements that apply to a role passed to the service, without that condition."""
    found = []
    for statement in statements:
        conditions = {operator: dict(keys) for operator, keys in statement.get("Condition", {}).items()}
        passed = _list(conditions.get("StringEquals", {}).pop("iam:PassedToService", None))
        if not passed or service in passed:
            kept = {operator: keys for operator, keys in conditions.items() if keys}
            found.append({**statement, "Condition": kept})
    return found


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
