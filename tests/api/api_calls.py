"""Calls to the API's application as the load balancer makes them, and access to its responses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_lambda.application import Application, services_of
from api_lambda.settings import Settings
from tests.fakes.token_issuer import CLIENT, ISSUER, SCOPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fakes.token_issuer import TokenIssuer

EVENTS = Path(__file__).parents[1] / "events"
REQUEST_ID = "6f1c2a5e-0000-4000-8000-000000000001"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a function in us-east-1, with these variables added."""
    return {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "MLPIPE_STAGE": "local",
        "MLPIPE_ACCOUNT_ID": "000000000000",
        "MLPIPE_TOKEN_ISSUER": ISSUER,
        "MLPIPE_JWKS_URL": "https://issuer.example/jwks.json",
        "MLPIPE_TOKEN_CLIENT_IDS": CLIENT,
        "MLPIPE_TOKEN_AUDIENCES": "api",
        "MLPIPE_TOKEN_SCOPE": SCOPE,
        **variables,
    }


def recorded_event(name: str, *, model: str = "m", token: str = "") -> dict[str, Any]:
    """Return a recorded event with a model and a token inserted."""
    text = (EVENTS / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text.replace("MODEL", model).replace("TOKEN", token))


@dataclass(frozen=True, slots=True)
class Answered:
    """A response of the application."""

    event: dict[str, Any]

    @property
    def status(self) -> int:
        """The status code."""
        return self.event["statusCode"]

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name, in either mode of the load balancer."""
        if "multiValueHeaders" in self.event:
            return {name: values[0] for name, values in self.event["multiValueHeaders"].items()}
        return self.event["headers"]

    @property
    def document(self) -> Any:
        """The parsed JSON body, with exact numbers."""
        return json.loads(self.event["body"], parse_float=Decimal)

    @property
    def problem(self) -> str:
        """The last part of the problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.document["status"] == self.status
        return self.document["type"].removeprefix("urn:mlpipe:problem:")


@dataclass(slots=True)
class ApiUnderTest:
    """One execution environment of the function, and the lines it logged."""

    issuer: TokenIssuer
    variables: dict[str, str]
    lines: list[str] = field(default_factory=list)
    application: Application = field(init=False)

    def __post_init__(self) -> None:
        settings = Settings.from_environment(environment(MLPIPE_JWKS_URL=self.issuer.url, **self.variables))
        self.application = Application(services_of(settings), settings.deployment.stage, self.lines.append)

    def send(self, event: Any) -> Answered:
        """Answer an event."""
        return Answered(self.application.answer(event, REQUEST_ID))

    def get(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str | None = None,
        headers: dict[str, str] | None = None,
        body: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send a request with a valid token, or with the given one; an empty token sends none."""
        token = self.issuer.token() if token is None else token
        joined = {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        event = {
            "httpMethod": method,
            "path": path,
            "headers": joined,
            "queryStringParameters": dict(query or {}),
        }
        return self.send({**event, "body": body})

    def batch_get(self, model: str, document: Any, *, token: str | None = None) -> Answered:
        """Ask for several predictions with a JSON document, or with raw text."""
        body = document if isinstance(document, str) else json.dumps(document)
        path = f"/v1/models/{model}/predictions:batchGet"
        return self.get(path, method="POST", token=token, body=body)

    def prediction(self, model: str, entity_id: str = "AA-1141-JFK", **query: str) -> Answered:
        """Ask for a prediction."""
        return self.get(f"/v1/models/{model}/predictions/{entity_id}", query=query)

    @property
    def last_line(self) -> dict[str, Any]:
        """The last line of the log."""
        assert self.lines[-1].endswith("\n")
        return json.loads(self.lines[-1])
