"""The canary on the deployed API: load balancer, Lambda, DynamoDB, and a token from Cognito."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_storage import ensure_table
from mlpipe_dagster.pipeline.asset_names import API_CANARY, PUBLICATION, asset_key
from mlpipe_dagster.publication.api_canary import ask_api
from mlpipe_dagster.publication.api_client import ApiUnreachableError, PublicApi
from mlpipe_dagster.publication.live_batch_checks import live_batch_checks
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.settings import ApiSettings
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.serving_record import ServingRecord
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.small_model import DAYS, SmallModel, declaration, now
from tests.dagster.written_parts import WrittenPart
from tests.fakes.http_answers import serving

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack


@pytest.fixture
def deployed(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> SmallModel:
    """A model of the test's own in the deployment that the stack's API serves."""
    for name, value in local_stack.environment.items():
        monkeypatch.setenv(name, value)
    # A proxy of the machine cannot reach this machine's loopback.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    platform = Platform()
    model = SmallModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}"))
    ensure_table(
        platform.client("dynamodb"),
        resource_definitions.online_table(platform.settings.deployment, model.name),
    )
    return model


def live_batch(model: SmallModel, *, with_items: bool = True, is_storable: bool = True) -> str:
    """Publish a batch whose items are in DynamoDB, as far as they shall be."""
    # Too large for the declared decimal(7,2), or small enough.
    platform, part = model.platform, WrittenPart(model, rows=3, first_score=0 if is_storable else 10**6)
    batch_id = model.verified_batch(**part.manifest_changes)
    table = platform.settings.deployment.online_table(model.name)
    items = OnlineItems(model.declaration.prediction_schema)
    for row in part.rows if with_items else ():
        item = items.build(row, batch_id, int((now() + DAYS).timestamp()))
        platform.client("dynamodb").put_item(TableName=table, Item=item)
    told = ServingRecord(model.declaration.prediction_schema, "v1", 3, "0").to_json()
    publisher(model).publish(batch_id, request(), told)
    return batch_id


def test_the_canary_finds_the_new_batch(deployed: SmallModel) -> None:
    """First one batch, then the next, which the API shows within seconds."""
    for _ in range(2):
        batch_id = live_batch(deployed)
        found = ask_api(deployed.platform, deployed.name)
        assert found.answer.passed, found.answer.text
        assert found.shown is not None
        assert (found.shown.status, found.shown.batch_id) == (200, batch_id)
        assert found.shown.request_id


def test_an_entity_that_the_api_does_not_have_is_told(deployed: SmallModel) -> None:
    """The check fails, with the API's answer and the request id that leads to its log."""
    batch_id = live_batch(deployed, with_items=False)
    found = ask_api(deployed.platform, deployed.name, seconds=2)
    assert not found.answer.passed
    assert f"{batch_id} is live" in found.answer.text
    assert "404" in found.answer.text


def test_a_batch_without_anything_to_ask_for_is_not_well(deployed: SmallModel) -> None:
    """A live batch of refused rows alone shows readers nothing, which the check tells at once."""
    batch_id = live_batch(deployed, is_storable=False)
    found = ask_api(deployed.platform, deployed.name)
    assert not found.answer.passed
    assert found.answer.text == f"{batch_id} is live, but none of its rows was accepted"


def test_the_check_needs_no_live_batch_and_an_address(
    deployed: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked before the first publication; an API that nobody named is told, not passed over."""
    canary = dg.AssetCheckKey(asset_key(deployed.name, PUBLICATION), API_CANARY)

    def evaluated(platform: Platform) -> Any:
        result = (
            dg.Definitions(
                asset_checks=[live_batch_checks(deployed.declaration, deployed.partitions)],
                jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks(canary))],
                resources={"platform": platform},
            )
            .resolve_job_def("check")
            .execute_in_process()
        )
        (found,) = result.get_asset_check_evaluations()
        return found

    assert evaluated(deployed.platform).passed
    live_batch(deployed)
    monkeypatch.delenv("MLPIPE_API_URL")
    found = evaluated(Platform())
    assert not found.passed
    assert "MLPIPE_API_URL" in str(found.description)


def test_a_refused_token_tells_no_secret(deployed: SmallModel) -> None:
    """The error names the secret and the address, and nothing of what they hold."""
    settings = deployed.platform.settings.api
    assert settings is not None
    secrets = deployed.platform.client("secretsmanager")
    content = str(secrets.get_secret_value(SecretId=settings.token_client_secret)["SecretString"])
    # An issuer that gives back what it was told, and no token.
    with serving((200, content.encode(), {})) as issuer:
        broken = ApiSettings(
            url=settings.url,
            token_url=issuer.url,
            token_client_secret=settings.token_client_secret,
            token_scope=settings.token_scope,
        )
        with pytest.raises(ApiUnreachableError, match="issued no token") as refused:
            PublicApi(broken, secrets).prediction("things", "E1")
    assert settings.token_client_secret in str(refused.value)
    assert "client_secret" not in str(refused.value).replace(settings.token_client_secret, "")
    assert refused.value.__cause__ is None
