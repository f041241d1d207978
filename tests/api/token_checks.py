"""Settings, issuer, clock and header values for the tests of tokens."""

from __future__ import annotations

from api_lambda.settings import Settings
from tests.api.api_calls import environment
from tests.fakes.token_issuer import TokenIssuer

# Shared, because making a key is slow.
SHARED_ISSUER = TokenIssuer()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SETTINGS = Settings.from_environment(environment())


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def bearer(token: str) -> tuple[str, ...]:
    """Return the Authorization header's values."""
    return (f"Bearer {token}",)
