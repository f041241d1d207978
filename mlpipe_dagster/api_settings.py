"""Where the deployed API is, and how a client of it gets a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The API as its clients reach it.

    Attributes:
        url: Its public address, without a slash at the end.
        token_url: Where client credentials become a token.
        token_client_secret: The name of the secret with `client_id` and `client_secret`.
        token_scope: What the token is for.
    """

    url: str
    token_url: str
    token_client_secret: str
    token_scope: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the settings of an environment, or None if it names no API or no way to a token."""
        names = (
            "MLPIPE_API_URL",
            "MLPIPE_TOKEN_URL",
            "MLPIPE_TOKEN_CLIENT_SECRET_NAME",
            "MLPIPE_TOKEN_SCOPE",
        )
        url, token_url, secret, scope = (environment.get(name, "") for name in names)
        if not (url and token_url and secret and scope):
            return None
        return cls(url=url.rstrip("/"), token_url=token_url, token_client_secret=secret, token_scope=scope)
