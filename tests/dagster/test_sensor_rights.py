"""The role of Dagster's daemon and code server allows every AWS call of the sensors."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from infra.permissions import role_definitions
from mlpipe_dagster.accuracy.accuracy_sensor import accuracy_tick
from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.live_batches_sensor import live_batches_tick
from mlpipe_dagster.publication.projection_sensor import projection_tick
from mlpipe_dagster.regions.serving_regions_sensor import serving_regions_tick
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.retention.retention_sensor import retention_tick
from mlpipe_dagster.versions.model_versions_sensor import model_versions_tick
from mlpipe_dagster.versions.retraining_sensor import retraining_tick
from prediction_contract.naming.s3_layout import partition_features_prefix
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.small_model import SmallModel, declaration, now
from tests.dagster.versions.registered_packages import RegisteredPackages
from tests.dagster.versions.small_retraining import SmallRetraining
from tests.dagster.versions.test_retraining_sensor import Daemon as Drifted
from tests.infra.role_rights import allows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.dagster.sensor_daemon import SensorDaemon

pytestmark = pytest.mark.stack

_OF_DYNAMODB = {"Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem", "Get": "GetItem"}
_OF_S3 = {"GetObject": "GetObject", "HeadObject": "GetObject", "ListObjectsV2": "ListBucket"}


class CallRecorder:
    """Record AWS calls as the action and resource that IAM checks."""

    def __init__(self, platform: Platform) -> None:
        self.deployment = platform.settings.deployment
        self.rights: set[tuple[str, str]] = set()
        for service in ("s3", "dynamodb", "sqs", "sagemaker"):
            for client in (platform.client(service), platform.tick_client(service)):
                client.meta.events.register("provide-client-params", self.note)

    def note(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        """Record one call."""
        self.rights.update(self._rights(model.service_model.service_name, model.name, params))

    def _rights(self, service: str, operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if service == "s3":
            # IAM authorizes a listing by bucket only.
            key = "" if operation == "ListObjectsV2" else f"/{params['Key']}"
            yield f"s3:{_OF_S3[operation]}", f"arn:aws:s3:::{params['Bucket']}{key}"
        elif service == "sqs":
            queue = str(params["QueueUrl"]).rpartition("/")[2]
            arn = self.deployment.done_file_queue_arn.rpartition(":")[0]
            yield f"sqs:{operation.removesuffix('Batch')}", f"{arn}:{queue}"
        elif service == "sagemaker":
            yield f"sagemaker:{operation}", self._of_sagemaker(params)
        elif "TransactItems" in params:
            # IAM authorizes each item of a transaction.
            for item in params["TransactItems"]:
                for kind, entry in item.items():
                    yield f"dynamodb:{_OF_DYNAMODB[kind]}", self._table(entry["TableName"])
        else:
            yield f"dynamodb:{operation}", self._table(params["TableName"])

    def _of_sagemaker(self, params: Mapping[str, Any]) -> str:
        home = self.deployment
        place = f"arn:aws:sagemaker:{home.region}:{home.account_id}"
        if "ModelPackageName" in params:
            return str(params["ModelPackageName"])
        if "PipelineName" in params:
            return f"{place}:pipeline/{params['PipelineName']}"
        return f"{place}:model-package-group/{params['ModelPackageGroupName']}"

    def _table(self, name: str) -> str:
        home = self.deployment
        return f"arn:aws:dynamodb:{home.region}:{home.account_id}:table/{name}"


def test_daemon_role_allows_all_calls_of_the_sensors(
    small_model: SmallModel, daemon: SensorDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sensor is evaluated once with enough data to make it request or report something."""
    monkeypatch.setenv("MLPIPE_SERVING_REGIONS", "us-east-1 eu-west-1")
    platform = small_model.platform
    batches = [small_model.verified_batch(partition=f"2013-02-0{day}") for day in (1, 2, 3)]
    for batch_id in batches:
        publisher(small_model).publish(batch_id, request(), small_model.serving)
    small_model.deliver(small_model.manifest())
    platform.bucket.put(f"done/2026-11-23/{small_model.name}/nonsense.json", b"{}")
    features = f"{partition_features_prefix(small_model.name, '2013-02-02')}run=r/features.json"
    platform.bucket.put(features, b"{}")
    model = ServedModel(
        name=small_model.name,
        partitions=small_model.partitions,
        items_life=timedelta(days=90),
        due_after=timedelta(hours=6),
    )
    asked = CallRecorder(platform)
    looking = Platform()
    looking._clients.update(platform._clients)
    assert daemon.tick().run_requests
    context = dg.build_sensor_context(instance=daemon.instance)
    assert live_batches_tick(context, looking, [model], now() + timedelta(days=29)).run_requests
    assert serving_regions_tick(daemon.instance, looking, [model], now()).run_requests
    context = dg.build_sensor_context(instance=daemon.instance)
    assert accuracy_tick(context, looking, [small_model.name], now()).run_requests
    assert retention_tick(None, looking, [model], now() + timedelta(days=31)).run_requests
    context = dg.build_sensor_context(instance=daemon.instance)
    assert projection_tick(context, looking, Warehouse(platform=looking), [model], now()).asset_events
    registered = RegisteredPackages(Platform(), small_model.name)
    registered.register()
    url = registered.platform.client("sqs").create_queue(QueueName=asked.deployment.model_events_queue)[
        "QueueUrl"
    ]
    monkeypatch.setenv("MLPIPE_MODEL_EVENTS_QUEUE_URL", url)
    watching = Platform()
    watching._tick_clients.update(platform._tick_clients)
    context = dg.build_sensor_context(instance=daemon.instance)
    assert model_versions_tick(context, watching, [small_model.name], now()).asset_events
    drifted = Drifted(SmallRetraining(registered, is_bare=True), daemon.instance)
    digest = registered.record(1).digest
    for day in (24, 25):
        drifted.check(day, digest, passed=False)
    declared = declaration(small_model.name, training={"approval": "manual"})
    assert declared.retraining is not None
    context = dg.build_sensor_context(instance=daemon.instance)
    assert retraining_tick(context, watching, declared, declared.retraining).asset_events
    role = role_definitions.dagster_daemon_role(platform.settings.deployment)
    assert {right for right in asked.rights if not allows(role, *right)} == set()
    assert {action for action, _ in asked.rights} >= {
        "dynamodb:GetItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "s3:GetObject",
        "s3:ListBucket",
        "sqs:ReceiveMessage",
        "sagemaker:ListModelPackages",
        "sagemaker:DescribeModelPackage",
        "sagemaker:StartPipelineExecution",
    }
