"""A client of the deployed API, with its public address and a token for client credentials."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpipe_dagster.settings import ApiSettings
from prediction_contract.errors import ContractError

_SECONDS = 10
_MAX_BYTES = 1 << 20


class ApiUnreachableError(ContractError):
    """The API or its token issuer does not answer properly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResponse:
    """The API's answer to one request.

    Attributes:
        status: The HTTP status.
        batch_id: The batch of the prediction, if the answer is one.
        request_id: The id of the API's log line.
    """

    status: int
    batch_id: str | None
    request_id: str


class PublicApi:
    """The API of one deployment.

    Args:
        settings: The API's address, its token issuer and the client's secret.
        secrets: A boto3 Secrets Manager client, for the client's credentials.
    """

    def __init__(self, settings: ApiSettings, secrets: Any) -> None:
        self._settings = settings
        self._secrets = secrets
        self._token = ""

    def prediction(self, model: str, entity_id: str) -> ApiResponse:
        """Ask for one entity's live prediction, without enrichment.

        Raises:
            ApiUnreachableError: The issuer issued no token, or the API did not answer.
        """
        path = f"/v1/models/{model}/predictions/{urllib.parse.quote(entity_id, safe='')}?enrich=none"
        request = urllib.request.Request(  # noqa: S310  # the operator's own address
            self._settings.url + path, headers={"Authorization": f"Bearer {self._bearer()}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                return _read(answer.status, answer.read(_MAX_BYTES), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error.code, error.read(_MAX_BYTES), error.headers)
        except OSError as error:
            raise ApiUnreachableError(
                f"{self._settings.url} does not answer: {error}",
                remedy="Check the load balancer and MLPIPE_API_URL",
                model=model,
            ) from error

    def _bearer(self) -> str:
        if self._token:
            return self._token
        settings = self._settings
        try:
            secret = self._secrets.get_secret_value(SecretId=settings.token_client_secret)["SecretString"]
            credentials = json.loads(secret)
            basic = f"{credentials['client_id']}:{credentials['client_secret']}"
            form = {"grant_type": "client_credentials", "scope": settings.token_scope}
            request = urllib.request.Request(  # noqa: S310  # the operator's own address
                settings.token_url,
                data=urllib.parse.urlencode(form).encode(),
                headers={"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"},
            )
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                self._token = str(json.loads(answer.read(_MAX_BYTES))["access_token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            # The error's text may quote part of a secret, which must not reach a log.
            raise ApiUnreachableError(
                f"{settings.token_url} issued no token ({type(error).__name__})",
                remedy=f"Check the secret {settings.token_client_secret} and MLPIPE_TOKEN_URL",
            ) from None
        return self._token


def _read(status: int, body: bytes, headers: Any) -> ApiResponse:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    found = document.get("provenance", document) if isinstance(document, dict) else {}
    batch_id = found.get("batch_id") if isinstance(found, dict) else None
    return ApiResponse(
        status=status,
        batch_id=None if batch_id is None else str(batch_id),
        request_id=str(headers.get("X-Request-Id", "")),
    )


def ask_until(
    ask: Callable[[], ApiResponse],
    is_answered: Callable[[ApiResponse], bool],
    *,
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[ApiResponse | None, str]:
    """Ask each second until `is_answered` is true or time is up; return the last answer and the last error.

    The API caches pointers for some seconds, so the first answers may be of the previous batch.
    """
    deadline, answer, trouble = clock() + seconds, None, ""
    while True:
        try:
            answer, trouble = ask(), ""
        except ApiUnreachableError as error:
            trouble = str(error)
        if (answer is not None and not trouble and is_answered(answer)) or clock() + 1 > deadline:
            return answer, trouble
        sleep(1)
