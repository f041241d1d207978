"""The canary asks the deployed API through load balancer, Lambda, DynamoDB and a Cognito token."""

from __future__ import annotations

import json
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
    """Make a new model in the deployment that the stack's API serves."""
    for name, value in local_stack.environment.items():
        monkeypatch.setenv(name, value)
    # An HTTP proxy cannot reach this machine's loopback address.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    platform = Platform()
    model = SmallModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}"))
    ensure_table(
        platform.client("dynamodb"),
        resource_definitions.online_table(platform.settings.deployment, model.name),
    )
    return model


def live_batch(model: SmallModel, *, with_items: bool = True, is_storable: bool = True) -> str:
    """Publish a batch, with items in DynamoDB unless `with_items` or `is_storable` is false."""
    # A score of 10**6 does not fit the declared decimal(7,2), so every row is refused.
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


def test_canary_finds_new_batch(deployed: SmallModel) -> None:
    """The API shows each of two successive live batches."""
    for _ in range(2):
        batch_id = live_batch(deployed)
        found = ask_api(deployed.platform, deployed.name)
        assert found.answer.passed, found.answer.text
        assert found.shown is not None
        assert (found.shown.status, found.shown.batch_id) == (200, batch_id)
        assert found.shown.request_id


def test_missing_entity_fails_the_check(deployed: SmallModel) -> None:
    """The description holds the live batch and the API's status 404."""
    batch_id = live_batch(deployed, with_items=False)
    found = ask_api(deployed.platform, deployed.name, seconds=2)
    assert not found.answer.passed
    assert f"{batch_id} is live" in found.answer.text
    assert "404" in found.answer.text


def test_batch_without_accepted_rows_fails_the_check(deployed: SmallModel) -> None:
    """The description says that the live batch has no accepted row."""
    batch_id = live_batch(deployed, is_storable=False)
    found = ask_api(deployed.platform, deployed.name)
    assert not found.answer.passed
    assert found.answer.text == f"{batch_id} is live, but none of its rows was accepted"


def test_check_passes_without_live_batch_and_fails_without_api_url(
    deployed: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails and names the missing variable once a batch is live."""
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


def test_token_error_reveals_no_secret(deployed: SmallModel) -> None:
    """The error names the address and the secret, and contains nothing of its value."""
    settings = deployed.platform.settings.api
    assert settings is not None
    secrets = deployed.platform.client("secretsmanager")
    content = str(secrets.get_secret_value(SecretId=settings.token_client_secret)["SecretString"])
    # The issuer answers with the client secret instead of a token.
    with serving((200, content.encode(), {})) as issuer:
        broken = ApiSettings(
            url=settings.url,
            token_url=issuer.url,
            token_client_secret=settings.token_client_secret,
            token_scope=settings.token_scope,
        )
        with pytest.raises(ApiUnreachableError, match="issued no token") as refused:
            PublicApi(broken, secrets).prediction("things", "E1")
    shown = str(refused.value).replace(settings.token_client_secret, "the secret")
    assert issuer.url in shown
    assert "the secret" in shown
    for name, value in json.loads(content).items():
        assert name not in shown
        assert value not in shown
    assert refused.value.__cause__ is None
