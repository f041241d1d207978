"""Tests of SageMaker events in the queues of EventBridge rules, also duplicated, lost or late."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.job_executor.job_stack import Aws, Executor, add_fault, eventually, http, package_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack

PACKAGE_CHANGE = "SageMaker Model Package State Change"


@pytest.fixture
def inbox(aws: Aws, executor: Executor, name: str) -> Iterator[Inbox]:
    """Give a queue that receives the events of one group, and remove its rule and all faults afterwards."""
    found = Inbox(aws, executor, name)
    yield found
    found.close()


class Inbox:
    """A model package group, and a queue that receives its events.

    Args:
        aws: The emulator.
        executor: Sends the events.
        name: Name of the group, the rule and the queue.
    """

    def __init__(self, aws: Aws, executor: Executor, name: str) -> None:
        self.group = name
        self.registry = executor.client("sagemaker")
        self.registry.create_model_package_group(ModelPackageGroupName=name)
        self._executor = executor
        self._events, self._sqs = aws.client("events"), aws.client("sqs")
        self._url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        pattern = {
            "source": ["aws.sagemaker"],
            "detail-type": [PACKAGE_CHANGE],
            "detail": {"ModelPackageGroupName": [{"prefix": name}]},
        }
        self._events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
        self._events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])

    def close(self) -> None:
        """Remove the rule and all faults."""
        self._events.remove_targets(Rule=self.group, Ids=["queue"])
        self._events.delete_rule(Name=self.group)
        http("DELETE", f"{self._executor.url}/_executor/faults")

    def fault(self, **effect: Any) -> None:
        """Inject a fault into the next events."""
        assert add_fault(self._executor, service="events", operation=PACKAGE_CHANGE, **effect)[0] == 200

    def receive(self, count: int) -> list[dict[str, Any]]:
        """Wait for at least `count` events, and return them in order of arrival."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                found.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            return len(found) >= count

        eventually(look, what=f"{count} events arrive, {len(found)} have", seconds=30)
        return found


def test_package_creation_and_approval_send_events(inbox: Inbox) -> None:
    """A creation and an update send two events each, and an update names the fields that it changed."""
    metadata = {"GeneratedBy": "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p/execution/e"}
    request = package_request(inbox.group, MetadataProperties=metadata)
    arn = inbox.registry.create_model_package(**request)["ModelPackageArn"]
    created = inbox.receive(2)
    inbox.registry.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    approved = inbox.receive(2)

    assert {(event["source"], event["detail-type"], *event["resources"]) for event in created} == {
        ("aws.sagemaker", PACKAGE_CHANGE, arn)
    }
    detail = created[-1]["detail"]
    assert detail["ModelPackageArn"] == arn
    assert detail["ModelPackageGroupName"] == inbox.group
    assert (detail["ModelPackageVersion"], detail["ModelPackageStatus"]) == (1, "Completed")
    assert detail["ModelApprovalStatus"] == "PendingManualApproval"
    assert detail["MetadataProperties"] == metadata
    assert "CustomerMetadataProperties" not in detail
    assert {event["detail"]["ModelApprovalStatus"] for event in approved} == {"Approved"}
    assert {tuple(event["detail"]["UpdatedModelPackageFields"]) for event in approved} == {
        ("ModelApprovalStatus",)
    }
    assert len({event["id"] for event in [*created, *approved]}) == 4


def test_events_of_other_groups_are_filtered_out(inbox: Inbox, executor: Executor) -> None:
    """Only events that match a rule's pattern reach its queue."""
    other = f"other-{inbox.group}"
    executor.client("sagemaker").create_model_package_group(ModelPackageGroupName=other)
    executor.client("sagemaker").create_model_package(**package_request(other))
    inbox.registry.create_model_package(**package_request(inbox.group))
    assert {event["detail"]["ModelPackageGroupName"] for event in inbox.receive(2)} == {inbox.group}


def test_events_are_dropped_and_duplicated_on_demand(inbox: Inbox) -> None:
    """A dropped event never arrives, and a duplicated one arrives twice with the same id."""
    inbox.fault(dropped=True, count=2)
    inbox.registry.create_model_package(**package_request(inbox.group))
    inbox.fault(doubled=True)
    inbox.registry.create_model_package(**package_request(inbox.group))

    found = inbox.receive(3)

    assert [event["detail"]["ModelPackageVersion"] for event in found] == [2, 2, 2]
    ids = [event["id"] for event in found]
    assert (ids[0] == ids[1], ids[1] == ids[2]) == (True, False)


def test_delayed_event_is_overtaken(inbox: Inbox) -> None:
    """A delayed event arrives after events that were sent later."""
    inbox.fault(latency_seconds=1.5, count=2)
    inbox.registry.create_model_package(**package_request(inbox.group))
    inbox.registry.create_model_package(**package_request(inbox.group))
    assert [event["detail"]["ModelPackageVersion"] for event in inbox.receive(4)] == [2, 2, 1, 1]


def test_unreachable_event_bus_does_not_block_registry(tmp_path: Path) -> None:
    """Without EventBridge the registry works, and the executor exits normally and logs the lost event."""
    alone = Executor("http://127.0.0.1:9", tmp_path / "state").start()
    client = alone.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="g")
    client.create_model_package(**package_request("g"))
    assert alone.stop() == 0
    assert "lost an event" in (tmp_path / "state" / "executor.log").read_text()
