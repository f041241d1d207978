"""A client that calls the API as an application does: through the load balancer, with a Cognito token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from infra.local.supervision.stack_state import StackError

_ANSWER_SECONDS = 30


@dataclass(frozen=True)
class ServedAnswer:
    """An answer of the API.

    Attributes:
        status: The HTTP status.
        body: The body's text.
    """

    status: int
    body: str

    @property
    def document(self) -> dict[str, Any]:
        """The body's JSON object; empty if the body is not one."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def batch_id(self) -> str | None:
        """The batch of the prediction; None if the answer is not a prediction."""
        return self.document.get("provenance", {}).get("batch_id")

    @property
    def version(self) -> int | None:
        """The model's version that scored the prediction; None for a model without versions."""
        return self.document.get("provenance", {}).get("model_package_version")


@dataclass(frozen=True)
class LiveApi:
    """The API of one model.

    Attributes:
        url: The load balancer's address, without a slash at the end.
        model: The model.
        token: A bearer token.
    """

    url: str
    model: str
    token: str

    def ask(self, entity_id: str, *, with_token: bool = True) -> ServedAnswer:
        """Request an entity's prediction; error responses are returned as answers.

        Raises:
            StackError: The API does not answer.
        """
        address = f"{self.url}/v1/models/{self.model}/predictions/{quote(entity_id, safe='')}"
        headers = {"Authorization": f"Bearer {self.token}"} if with_token else {}
        request = urllib.request.Request(address, headers=headers)  # noqa: S310  # loopback, as `mlpipe up` wrote it
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
                return ServedAnswer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return ServedAnswer(error.code, error.read().decode(errors="replace"))
        except OSError as error:
            raise StackError(
                f"The API did not answer at {address}: {error}", remedy="See `mlpipe status`"
            ) from error

    def require(self, entity_id: str, status: int, *, with_token: bool = True) -> ServedAnswer:
        """Request an entity's prediction, and return the answer if it has the given status.

        Raises:
            StackError: The answer has another status.
        """
        answer = self.ask(entity_id, with_token=with_token)
        if answer.status != status:
            raise StackError(
                f"The API answered {answer.status} instead of {status} for {entity_id}: {answer.body[:1000]}",
                remedy="See the log group of the API's function",
            )
        return answer
