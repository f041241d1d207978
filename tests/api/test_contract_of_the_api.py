"""The API against its OpenAPI document: generated requests get the documented responses."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.core.parameters import ParameterLocation

from api_lambda.documentation.openapi import openapi_document
from prediction_contract.limits import MAX_PARTITION_KEY_BYTES
from tests.api.api_calls import ApiUnderTest
from tests.api.published_batches import FLIGHT, new_model
from tests.api.test_local_api import request
from tests.fakes.load_balancer import LoadBalancer
from tests.fakes.token_issuer import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.naming.resource_names import Deployment
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
DOCUMENT = openapi_document(public_documentation=True)
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method != "parameters"
]
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
RELAXED = settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
# Columns of the published model, which the OpenAPI document cannot list.
FIELDS = "flight,serial"


@pytest.fixture(scope="module")
def published(aws_client: Callable[[str], Any], deployment: Deployment) -> str:
    """Return the name of a model with a live batch."""
    model = new_model(aws_client("dynamodb"), deployment)
    model.publish(FLIGHT, '{"flight":"0"}')
    return model.name


@pytest.fixture(scope="module")
def load_balancer(local_stack: LocalStack, session_issuer: TokenIssuer) -> LoadBalancer:
    """Return the handler behind a load balancer."""
    variables = {
        "AWS_ENDPOINT_URL": local_stack.environment["AWS_ENDPOINT_URL"],
        "MLPIPE_PUBLIC_DOCUMENTATION": "true",
    }
    return LoadBalancer(ApiUnderTest(session_issuer, variables).application)


def operation_of(schema: Any, label: str) -> Any:
    """Return one operation of a schema."""
    method, _, path = label.partition(" ")
    return schema[path][method.lower()]


def aim(case: Any, model: str) -> None:
    """Set an existing model and, mostly, an existing entity in a request with a valid path."""
    if "model" in case.path_parameters:
        case.path_parameters["model"] = model
    if len(str(case.path_parameters.get("entity_id", ""))) % 2:
        case.path_parameters["entity_id"] = "0"


def make_valid(case: Any, model: str) -> None:
    """Make a request valid where only the model's columns decide, or JSON Schema cannot express it."""
    aim(case, model)
    if len(str(case.query.get("entity_id", ""))) % 2:
        case.query["entity_id"] = "0"
    if "fields" in case.query:
        case.query["fields"] = FIELDS
    if "enrich" in case.query:
        case.query["enrich"] = "none"
    if case.method == "POST":
        # JSON Schema counts characters, DynamoDB bytes.
        assume(all(len(each.encode()) <= MAX_PARTITION_KEY_BYTES for each in case.body["entity_ids"]))
        if "fields" in case.body:
            case.body["fields"] = FIELDS.split(",")


@pytest.mark.parametrize("label", OPERATIONS)
def test_valid_requests_match_the_documentation(
    load_balancer: LoadBalancer, session_issuer: TokenIssuer, published: str, label: str
) -> None:
    """Valid requests get a documented status, type, headers and body, and none without a token."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", load_balancer)
    headers = {"Authorization": f"Bearer {session_issuer.token()}"}

    @RELAXED
    @given(case=operation_of(schema, label).as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        make_valid(case, published)
        case.call_and_validate(headers=headers)

    check()


@pytest.mark.parametrize("label", OPERATIONS)
def test_running_api_matches_its_documentation(
    local_stack: LocalStack, published: str, token: str, label: str
) -> None:
    """Valid requests through load balancer and Lambda match the document that they serve."""
    url = local_stack.environment["MLPIPE_API_URL"]
    document = request(f"{url}/openapi.json").document
    schema = schemathesis.openapi.from_dict({**document, "servers": [{"url": url}]})

    @settings(max_examples=5, deadline=None, suppress_health_check=SLOW)
    @given(case=operation_of(schema, label).as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        make_valid(case, published)
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {token}"})

    check()


def schema_for_invalid_requests(document: dict[str, Any]) -> Any:
    """Return a schema for invalid requests, without authentication."""
    document = copy.deepcopy(document)
    # Tokens have their own tests: here each request has a valid one, which would count as a mistake.
    del document["security"]
    schema = schemathesis.openapi.from_dict(document)
    # Too long an address is refused with 414.
    schema.config.checks.negative_data_rejection = NegativeDataRejectionConfig(
        expected_statuses=["400", "404", "414"]
    )
    return schema


def aim_unless_path_is_invalid(case: Any, model: str) -> None:
    """Aim a request at an existing model, unless its path is the invalid part."""
    path = case.meta.components.get(ParameterLocation.PATH)
    if path is None or path.mode is GenerationMode.POSITIVE:
        aim(case, model)


REFUSABLE = [label for label in OPERATIONS if "{" in label or label == "GET /v1/models"]


@pytest.mark.parametrize("label", REFUSABLE)
def test_invalid_requests_are_refused_as_documented(
    load_balancer: LoadBalancer, session_issuer: TokenIssuer, published: str, label: str
) -> None:
    """Invalid paths, queries, headers and bodies get the documented problems."""
    schema = schema_for_invalid_requests(DOCUMENT)
    schema.app = load_balancer
    headers = {"Authorization": f"Bearer {session_issuer.token()}"}

    @RELAXED
    @given(case=operation_of(schema, label).as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: Any) -> None:
        aim_unless_path_is_invalid(case, published)
        case.call_and_validate(headers=headers)

    check()


@pytest.mark.parametrize("label", REFUSABLE)
def test_running_api_refuses_as_documented(
    local_stack: LocalStack, published: str, token: str, label: str
) -> None:
    """Invalid requests through load balancer and Lambda get the documented problems."""
    url = local_stack.environment["MLPIPE_API_URL"]
    document = request(f"{url}/openapi.json").document
    schema = schema_for_invalid_requests({**document, "servers": [{"url": url}]})

    @settings(max_examples=5, deadline=None, suppress_health_check=SLOW)
    @given(case=operation_of(schema, label).as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: Any) -> None:
        aim_unless_path_is_invalid(case, published)
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {token}"})

    check()
