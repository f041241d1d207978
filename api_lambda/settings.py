"""The API's settings, read from the environment once at cold start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from aws_wire.request_signer import SigningCredentials
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.stores.serving_record import ORIGIN_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_POINTER_SECONDS = 60
LONGEST_BUDGET_MILLISECONDS = 5_000

_ORIGIN = re.compile(ORIGIN_PATTERN)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class SettingsError(Exception):
    """Variables are missing or malformed; the message names each of them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The API's settings.

    Attributes:
        deployment: Stage, account and region, which determine every resource name.
        credentials: The role's credentials; valid as long as the execution environment lives.
        dynamodb_url: The URL of the region's DynamoDB, without a trailing slash.
        token_issuer: The required `iss` of tokens.
        jwks_url: The URL of the issuer's keys, which may be on another host than the issuer.
        client_ids: The accepted clients (Cognito's access tokens have no `aud`).
        audiences: The accepted values of `aud`.
        read_scope: The scope that a token must have.
        providers: The name of each provider's secret, or None if it needs none, by `https://host[:port]`. No
            other third party is called.
        secrets_url: The URL of the region's Secrets Manager, without a trailing slash.
        pointer_seconds: How long a live pointer is cached.
        enrichment_seconds: The time budget of a request for all third parties together.
        public_documentation: Whether `/openapi.json` and `/docs` need no token.
    """

    deployment: Deployment
    credentials: SigningCredentials
    dynamodb_url: str
    token_issuer: str
    jwks_url: str
    client_ids: frozenset[str]
    audiences: frozenset[str]
    read_scope: str
    providers: Mapping[str, str | None]
    secrets_url: str
    pointer_seconds: float
    enrichment_seconds: float
    public_documentation: bool

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Self:
        """Read the settings.

        Args:
            variables: Usually `os.environ`.

        Raises:
            SettingsError: A variable is missing or malformed.
        """
        reader = _VariableReader(variables)
        region = reader.required("AWS_REGION")
        stage, account = reader.required("MLPIPE_STAGE"), reader.required("MLPIPE_ACCOUNT_ID")
        credentials = SigningCredentials(
            reader.required("AWS_ACCESS_KEY_ID"),
            reader.required("AWS_SECRET_ACCESS_KEY"),
            reader.optional("AWS_SESSION_TOKEN"),
        )
        issuer, jwks_url = reader.required("MLPIPE_TOKEN_ISSUER"), reader.address("MLPIPE_JWKS_URL")
        client_ids, audiences = (
            reader.names("MLPIPE_TOKEN_CLIENT_IDS"),
            reader.names("MLPIPE_TOKEN_AUDIENCES"),
        )
        if not client_ids | audiences:
            reader.add_fault("MLPIPE_TOKEN_CLIENT_IDS and MLPIPE_TOKEN_AUDIENCES", "are both empty")
        providers = reader.providers("MLPIPE_PROVIDER_ORIGINS")
        pointer = reader.number("MLPIPE_POINTER_CACHE_SECONDS", 5, LONGEST_POINTER_SECONDS)
        budget = reader.number("MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS", 800, LONGEST_BUDGET_MILLISECONDS)
        public_documentation = reader.flag("MLPIPE_PUBLIC_DOCUMENTATION")
        dynamodb_url = reader.endpoint("dynamodb", "DYNAMODB", region)
        secrets_url = reader.endpoint("secretsmanager", "SECRETS_MANAGER", region)
        reader.raise_faults()
        try:
            deployment = Deployment(stage, account, region, reader.optional("MLPIPE_HOME_REGION"))
            secrets = {
                origin: deployment.provider_secret(name) if name else None
                for origin, name in providers.items()
            }
        except InvalidNameError as error:
            raise SettingsError(str(error)) from error
        return cls(
            deployment=deployment,
            credentials=credentials,
            dynamodb_url=dynamodb_url,
            secrets_url=secrets_url,
            token_issuer=issuer,
            jwks_url=jwks_url,
            client_ids=client_ids,
            audiences=audiences,
            read_scope=reader.optional("MLPIPE_TOKEN_SCOPE") or deployment.read_scope,
            providers=secrets,
            pointer_seconds=float(pointer),
            enrichment_seconds=budget / 1000,
            public_documentation=public_documentation,
        )


class _VariableReader:
    """Reads variables and collects all faults, so that one message names them all."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._faults: list[str] = []

    def add_fault(self, name: str, fault: str) -> None:
        """Note a fault, without the variable's value, because some are secret."""
        self._faults.append(f"{name} {fault}")

    def raise_faults(self) -> None:
        """Raise all noted faults as one error."""
        if self._faults:
            raise SettingsError(
                f"The API cannot start: {'; '.join(self._faults)}. Set them on the Lambda function."
            )

    def optional(self, name: str) -> str | None:
        """Return a variable's value; None if it is unset or empty."""
        return self._variables.get(name) or None

    def required(self, name: str) -> str:
        """Return a variable's value."""
        value = self.optional(name)
        if value is None:
            self.add_fault(name, "is not set")
        return value or ""

    def address(self, name: str) -> str:
        """Return an HTTPS address; plain HTTP is allowed for the local host only."""
        value = self.required(name)
        if value and not _is_address(value, loopback_only=True):
            self.add_fault(name, "is not an https address")
        return value

    def names(self, name: str) -> frozenset[str]:
        """Return the names in a comma-separated list."""
        parts = (part.strip() for part in (self.optional(name) or "").split(","))
        return frozenset(part for part in parts if part)

    def providers(self, name: str) -> dict[str, str | None]:
        """Parse a list of `https://host[:port][=name]`; return each name, or None, by origin."""
        found: dict[str, str | None] = {}
        for entry in self.names(name):
            origin, _, provider = entry.partition("=")
            if not (_ORIGIN.fullmatch(origin) and _is_address(origin)):
                self.add_fault(name, "is not a list of https://host[:port] or https://host[:port]=provider")
            elif provider and not _is_address(origin, loopback_only=True):
                self.add_fault(name, "would send a secret over plain HTTP")
            found[origin] = provider or None
        return found

    def endpoint(self, service: str, service_id: str, region: str) -> str:
        """Return the address of an AWS service, by the same variables as the SDKs."""
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        for name in (f"AWS_ENDPOINT_URL_{service_id}", "AWS_ENDPOINT_URL"):
            if given := self.optional(name):
                if not _is_address(given):
                    self.add_fault(name, "is not an http or https address")
                return given.rstrip("/")
        return f"https://{service}.{region}.{suffix}"

    def flag(self, name: str) -> bool:
        """Return whether a variable is `true`; unset means `false`."""
        text = self.optional(name) or "false"
        if text not in {"true", "false"}:
            self.add_fault(name, "is neither true nor false")
        return text == "true"

    def number(self, name: str, default: int, highest: int) -> int:
        """Return a variable as a whole number from 0 to `highest`."""
        text = self.optional(name)
        if text is None:
            return default
        if not (
            text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and int(text) <= highest
        ):
            self.add_fault(name, f"is not a whole number from 0 to {highest}")
            return default
        return int(text)


def _is_address(text: str, *, loopback_only: bool = False) -> bool:
    """Return whether a text is an http or https address.

    Args:
        text: The text.
        loopback_only: Whether plain HTTP is allowed for the local host only.
    """
    try:
        parts = urlsplit(text)
        # `urlsplit` checks the port only when it is accessed.
        called = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = parts.scheme == "http" and (not loopback_only or parts.hostname in _LOOPBACK)
    return called and (plain or parts.scheme == "https")
