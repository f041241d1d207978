"""Events of done files, from S3 through EventBridge and the queue to the sensor, as on AWS."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_queues import ensure_queue, ensure_rule
from mlpipe_dagster.done_files.done_file_queue import done_file_key
from mlpipe_dagster.done_files.done_file_tick import DoneFileUnreadableError
from tests.dagster.sensor_daemon import SensorDaemon, batches, requests, skipped_because
from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack

# Long enough for a tick, and short enough to wait for.
HIDDEN_SECONDS = 2
MAX_RECEIVES = 3
ARRIVAL_SECONDS = 30


class Queue:
    """The queue of done files and its dead-letter queue."""

    def __init__(self, small: SmallModel) -> None:
        self._sqs = small.platform.client("sqs")
        deployment = small.platform.settings.deployment
        self._dead_url = ensure_queue(self._sqs, resource_definitions.dead_letter_queue(deployment))
        queue = dataclasses.replace(
            resource_definitions.done_file_queue(deployment),
            visibility_timeout_seconds=HIDDEN_SECONDS,
            max_receives=MAX_RECEIVES,
        )
        self._url = ensure_queue(self._sqs, queue, dead_letter_arn=deployment.dead_letter_queue_arn)
        assert self._url == small.platform.settings.done_queue_url

    def send(self, body: str) -> None:
        """Send a message as any permitted sender may."""
        self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def counts(self) -> tuple[int, int]:
        """Return how many messages are visible, and how many are hidden."""
        found = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])["Attributes"]
        visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return int(found[visible]), int(found[hidden])

    def dead(self) -> list[str]:
        """Return the messages in the dead-letter queue."""
        answer = self._sqs.receive_message(
            QueueUrl=self._dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in answer.get("Messages", ())]


@pytest.fixture
def queue(small_model: SmallModel) -> Queue:
    """The queue, fed by the rule that the platform is provisioned with."""
    deployment = small_model.platform.settings.deployment
    made = Queue(small_model)
    ensure_rule(
        small_model.platform.client("events"),
        deployment.done_file_rule,
        pattern=resource_definitions.done_file_pattern(deployment),
        queue_arn=deployment.done_file_queue_arn,
    )
    return made


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after `ARRIVAL_SECONDS`."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def daemon(daemon: SensorDaemon, queue: Queue) -> SensorDaemon:
    """A daemon that has already listed the empty bucket, so that only the queue announces new files."""
    assert queue.counts() == (0, 0)
    daemon.tick()
    return daemon


def test_event_and_listing_start_the_same_run(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """The run key is the same, so even a lost cursor does not start a second run."""
    manifest = small_model.deliver(small_model.manifest())
    eventually(lambda: queue.counts()[0] == 1)
    (heard,) = requests(daemon.tick(lists=False))
    assert heard.run_key == f"{manifest.batch_id}:{manifest.digest}"
    assert daemon.tick().run_requests == []
    daemon.cursor = None
    (listed,) = requests(daemon.tick())
    assert listed.run_key == heard.run_key
    assert len(daemon.runs()) == 1


def test_event_of_file_older_than_the_window_starts_its_run(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """A batch that is delivered too late for any listing is loaded once."""
    manifest = small_model.deliver(small_model.manifest(small_model.batch_id("20260101")))
    eventually(lambda: queue.counts()[0] == 1)
    assert batches(daemon.tick(lists=False)) == [manifest.batch_id]
    eventually(lambda: queue.counts() == (1, 0))
    assert daemon.tick().run_requests == []
    eventually(lambda: daemon.tick(lists=False) is not None and queue.counts() == (0, 0))
    assert len(daemon.runs()) == 1


def test_message_outlives_a_tick_that_loses_its_cursor(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """If the daemon dies before it keeps the cursor, the message returns and the same run is requested."""
    small_model.deliver(small_model.manifest())
    eventually(lambda: queue.counts()[0] == 1)
    (lost,) = requests(daemon.tick(lists=False, keeps_cursor=False, makes_runs=False))
    assert queue.counts() == (0, 1)
    eventually(lambda: queue.counts() == (1, 0))
    (again,) = requests(daemon.tick(lists=False))
    assert again.run_key == lost.run_key
    # The message is deleted only once the run can be found.
    eventually(lambda: queue.counts() == (1, 0))
    assert daemon.tick(lists=False).run_requests == []
    assert queue.counts() == (0, 0)


def test_message_stays_until_its_run_exists(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """A run that was requested but never created is requested again, and its message is kept."""
    small_model.deliver(small_model.manifest())
    eventually(lambda: queue.counts()[0] == 1)
    daemon.tick(lists=False, makes_runs=False)
    eventually(lambda: queue.counts() == (1, 0))
    assert len(requests(daemon.tick(lists=False, makes_runs=False))) == 1
    assert queue.counts() == (0, 1)


def test_message_of_refused_file_is_deleted_after_the_refusal(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """The refusal is shown once, not every time the message returns."""
    small_model.platform.bucket.put(small_model.manifest().key, b"{")
    eventually(lambda: queue.counts()[0] == 1)
    assert len(daemon.tick(lists=False).asset_events) == 1
    assert queue.counts() == (0, 1)
    eventually(lambda: queue.counts() == (1, 0))
    assert daemon.tick(lists=False).asset_events == []
    assert queue.counts() == (0, 0)


def test_foreign_messages_do_not_block_the_queue(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """A valid message beside them starts its run; they end in the dead-letter queue."""
    foreign = ["no JSON", "[]", json.dumps(event("another-bucket", "done/2026-11-23/m/x.json"))]
    for body in foreign:
        queue.send(body)
    manifest = small_model.deliver(small_model.manifest())
    eventually(lambda: queue.counts()[0] == len(foreign) + 1)
    assert batches(daemon.tick(lists=False)) == [manifest.batch_id]

    def are_dead() -> bool:
        daemon.tick(lists=False)
        return sorted(queue.dead()) == sorted(foreign)

    eventually(are_dead)
    assert queue.counts() == (0, 0)
    assert len(daemon.runs()) == 1


def test_message_of_deleted_file_is_deleted(
    small_model: SmallModel, daemon: SensorDaemon, queue: Queue
) -> None:
    """A done file that no longer exists starts no run, and its message does not return."""
    manifest = small_model.deliver(small_model.manifest())
    eventually(lambda: queue.counts()[0] == 1)
    bucket = small_model.platform.settings.data_bucket
    small_model.platform.client("s3").delete_object(Bucket=bucket, Key=manifest.key)
    assert skipped_because(daemon.tick(lists=False)) == "No new done files"
    assert queue.counts() == (0, 0)


def test_listing_still_loads_without_the_queue(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """New files start their runs; a tick that finds nothing else fails, so that the error is noticed."""
    url = small_model.platform.settings.done_queue_url
    small_model.platform.client("sqs").delete_queue(QueueUrl=url)
    assert "NonExistentQueue" in skipped_because(daemon.tick(lists=False))
    with pytest.raises(DoneFileUnreadableError, match="NonExistentQueue"):
        daemon.tick(lists=False)
    manifest = small_model.deliver(small_model.manifest())
    assert batches(daemon.tick()) == [manifest.batch_id]


def event(bucket: str, key: str) -> dict[str, Any]:
    """Return an event as EventBridge sends it."""
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        '"text"',
        "[" * 100_000,
        '{"detail": null}',
        '{"detail": {"object": {"key": 1}, "bucket": {"name": "b"}}, "source": "aws.s3"}',
        '{"Records": [{"s3": {"object": {"key": "done/2026-11-23/m/x.json"}}}]}',
        json.dumps(event("b", "predictions/m/x.json")),
        json.dumps({**event("b", "done/2026-11-23/m/x.json"), "source": "somebody"}),
    ],
)
def test_other_messages_name_no_key(body: str) -> None:
    """A message that is not an event of a done file raises no error, whatever it contains."""
    assert done_file_key(body, "b") is None


def test_event_key_is_not_unquoted() -> None:
    """EventBridge, unlike S3's own notifications, sends keys unquoted."""
    assert (
        done_file_key(json.dumps(event("b", "done/2026-11-23/m/a+b.json")), "b")
        == "done/2026-11-23/m/a+b.json"
    )
