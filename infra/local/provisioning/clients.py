"""SDK clients for the local stack: only loopback, only stand-in credentials, a deadline on every call."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.local.supervision.components import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from infra.local.supervision.stack_state import StackError

_EXISTS = re.compile(
    r"already ?exist|ResourceExists|AlreadyOwned|ResourceInUse|ResourceConflict", re.IGNORECASE
)


class ProvisioningError(StackError):
    """A resource of the local stack cannot be created or repaired."""


def require_loopback(url: str, what: str) -> str:
    """Return the address without a trailing slash if it is an HTTP address on this machine.

    Raises:
        ProvisioningError: The address is of another machine; provisioning must never touch a real account.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or not is_loopback(host):
        raise ProvisioningError(
            f"The {what}, {url!r}, is not an HTTP address on this machine",
            remedy="Use the address of the local stack, which `mlpipe up` prints",
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class Clients:
    """The SDK clients that provisioning uses.

    Args:
        aws: Address of the AWS emulator.
        jobs: Address of the job executor, which stands in for Glue and SageMaker.
        region: Region name.
    """

    aws: str
    jobs: str
    region: str

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Clients:
        """Return the clients of the stack that `.env` describes.

        Raises:
            ProvisioningError: An address is of another machine.
        """
        aws, jobs = (
            require_loopback(variables[name], f"address in {name}")
            for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_GLUE")
        )
        return cls(aws, jobs, variables["AWS_REGION"])

    def client(self, service: str) -> Any:
        """Return a client of the service, for Glue and SageMaker with the job executor's address."""
        return boto3.client(
            service,
            endpoint_url=self.jobs if service in {"glue", "sagemaker"} else self.aws,
            region_name=self.region,
            # Explicit, so that a developer's own AWS profile is never read.
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 4},
                # A configured proxy cannot reach this machine's loopback interface.
                proxies={},
                s3={"addressing_style": "path"},
            ),
        )


def already_exists(error: ClientError) -> bool:
    """Return whether AWS refuses to create a resource because it exists; each service says so differently."""
    found = error.response["Error"]
    return _EXISTS.search(f"{found['Code']} {found.get('Message', '')}") is not None


def none_on_error(code: str, call: Callable[..., Any], **arguments: Any) -> Any:
    """Return AWS's response to a call, or None if AWS refuses with this error code.

    Raises:
        botocore.exceptions.ClientError: AWS refused with another error code.
    """
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise
        return None
