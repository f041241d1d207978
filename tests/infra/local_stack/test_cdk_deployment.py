"""The CDK's command line deploys the whole app to an emulator and destroys it again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import make_cdk_tools
from infra.local.cdk_deployment import LocalDeployment
from prediction_contract.naming.resource_names import Deployment
from tests.api.published_batches import FLIGHT, PublishedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack_runs import StackRun

MODEL = "flight_delay"


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(900)
def test_app_is_deployed_queried_and_destroyed(new_stack: Callable[..., StackRun], tmp_path: Path) -> None:
    """A deployment leaves no differences, the API serves a published batch, and all is destroyed."""
    stack = new_stack("aws")
    stack.up()
    said: list[str] = []
    tools = make_cdk_tools(cache_folder(os.environ), say=said.append)
    said.clear()
    local = LocalDeployment(stack.components()["aws"]["port"], tmp_path, tools, said.append)
    local.deploy()
    assert "There were no differences" in local.differences()

    dynamodb = stack.aws("dynamodb")
    published = PublishedModel(dynamodb, local.deployment, MODEL)
    batch_id = published.publish(FLIGHT)
    # `publish` gives the table its defined settings, deletion protection among them.
    dynamodb.update_table(TableName=published.table, DeletionProtectionEnabled=False)
    answer = local.ask(f"/v1/models/{MODEL}/predictions/AA-1141-JFK")
    assert answer["provenance"]["batch_id"] == batch_id
    assert answer["prediction"]["serial"] == 9007199254740993

    check_done_file_reaches_queue(stack, local.deployment)
    local.destroy()
    assert said == ["deployed mlpipe-cdk-data", "deployed --all"]


def check_done_file_reaches_queue(stack: StackRun, deployment: Deployment) -> None:
    """Assert that creating a done file puts a message in the queue, then delete the file's versions."""
    s3, sqs = stack.aws("s3"), stack.aws("sqs")
    key = "done/2013-02-01/flight_delay/20130201T060000Z-0123abcd.json"
    s3.put_object(Bucket=deployment.data_bucket, Key=key, Body=b"{}")
    url = sqs.get_queue_url(QueueName=deployment.done_file_queue)["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert json.loads(message["Body"])["detail"]["object"]["key"] == key
    found = s3.list_object_versions(Bucket=deployment.data_bucket)
    for each in (*found.get("Versions", []), *found.get("DeleteMarkers", [])):
        s3.delete_object(Bucket=deployment.data_bucket, Key=each["Key"], VersionId=each["VersionId"])
