"""Fixtures of the API over real DynamoDB and real HTTP: a new model, a token issuer, a weather service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flights.weather_service.observations import read_observations, weather_file
from flights.weather_service.server import WeatherServer

from api_lambda.http.http_connections import HttpConnections
from api_lambda.tokens.signing_keys import SigningKeys
from api_lambda.tokens.token_verifier import TokenVerifier
from infra.local.access_token import obtain_token
from prediction_contract.naming.resource_names import Deployment
from tests.api.api_calls import ApiUnderTest
from tests.api.published_batches import PublishedModel, new_model
from tests.api.token_checks import SETTINGS, SHARED_ISSUER
from tests.fakes.http_answers import serving_requests
from tests.fakes.token_issuer import TokenIssuer, serving_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack_runs import LocalStack


@pytest.fixture(scope="session")
def session_issuer() -> Iterator[TokenIssuer]:
    """Return a token issuer that no test changes."""
    issuer = TokenIssuer()
    with serving_keys(issuer) as url:
        issuer.url = url
        yield issuer


@pytest.fixture(scope="session")
def weather() -> Iterator[WeatherServer]:
    """Return a weather service in this process."""
    with WeatherServer(0, read_observations(weather_file())) as server, serving_requests(server):
        yield server


@pytest.fixture(scope="session")
def deployment(local_stack: LocalStack) -> Deployment:
    """Return the local stack's deployment."""
    account = local_stack.environment["MLPIPE_ACCOUNT_ID"]
    return Deployment("local", account, local_stack.environment["AWS_REGION"])


@pytest.fixture
def model(aws_client: Callable[[str], Any], deployment: Deployment) -> PublishedModel:
    """Return a new model on the local stack that is not published yet."""
    return new_model(aws_client("dynamodb"), deployment)


@pytest.fixture
def api(local_stack: LocalStack, session_issuer: TokenIssuer, weather: WeatherServer) -> ApiUnderTest:
    """Return the application in this process, over the stack's DynamoDB and without a pointer cache."""
    return ApiUnderTest(
        session_issuer,
        {
            "AWS_ENDPOINT_URL": local_stack.environment["AWS_ENDPOINT_URL"],
            "MLPIPE_POINTER_CACHE_SECONDS": "0",
            "MLPIPE_PROVIDER_ORIGINS": weather.url,
            "MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS": "5000",
        },
    )


@pytest.fixture(scope="session")
def token(local_stack: LocalStack) -> str:
    """Return a token as `make token` prints it."""
    return obtain_token(dict(local_stack.environment))


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    """Return an issuer whose keys are served at `issuer.url`; keys are shared because making them is slow."""
    issuer = TokenIssuer.__new__(TokenIssuer)
    issuer.keys, issuer.fetches = dict(SHARED_ISSUER.keys), 0
    issuer.served = issuer.key_set()
    with serving_keys(issuer) as url:
        issuer.url = url
        yield issuer


@pytest.fixture
def verifier(issuer: TokenIssuer) -> TokenVerifier:
    """Return a verifier that trusts the issuer."""
    return TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS)
