"""Sends SageMaker's events to the targets of EventBridge's rules. Faults can delay, double or drop events.

Like AWS, the emulator refuses `PutEvents` with AWS's own sources. So the executor asks EventBridge which
rules match an event, and sends the event to the queues of these rules.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import queue
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.executor_settings import ACCOUNT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.job_executor.aws_access import AwsAccess
    from infra.local.job_executor.call_faults import FaultBook

_LOG = logging.getLogger(__name__)

PACKAGE_CHANGE = "SageMaker Model Package State Change"
EXECUTION_CHANGE = "SageMaker Model Building Pipeline Execution Status Change"
STEP_CHANGE = "SageMaker Model Building Pipeline Execution Step Status Change"
# The service name of events in faults.
EVENTS = "events"
DETAIL_TYPES = (PACKAGE_CHANGE, EXECUTION_CHANGE, STEP_CHANGE)

_MOST_WAITING = 1_000
_CALL_SECONDS = 5
_CALL_ATTEMPTS = 2
_SQS_ARN = "arn:aws:sqs:"
# Not supported: they change what a target receives, but the executor sends events unchanged.
_INPUT_TRANSFORMATIONS = ("Input", "InputPath", "InputTransformer")


def event_time(seconds: float) -> str:
    """Return a time in the format of events, such as `2021-02-24T17:00:14Z`."""
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class EventBus:
    """Delivers events in the background, in the order in which they were sent.

    Args:
        region: The region in the events.
        access: Clients of the emulator.
        faults: The faults; some of them drop, double or delay events.
    """

    def __init__(self, region: str, access: AwsAccess, faults: FaultBook) -> None:
        self._region = region
        self._access = access
        self._faults = faults
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._deliver_all, name="events", daemon=True)

    def start(self) -> None:
        """Start the delivery."""
        self._thread.start()

    def send(self, detail_type: str, resources: list[str], detail: dict[str, Any]) -> None:
        """Queue an event and return at once. An event that cannot be delivered is logged and lost.

        Args:
            detail_type: One of `DETAIL_TYPES`.
            resources: The ARNs of the event's resources.
            detail: The event's detail.
        """
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": "aws.sagemaker",
            "account": ACCOUNT_ID,
            "time": event_time(time.time()),
            "region": self._region,
            "resources": resources,
            "detail": detail,
        }
        fault = self._faults.take(EVENTS, detail_type)
        if fault is not None and fault.dropped:
            _LOG.info("dropped event %s of %s because of a fault rule", event["id"], resources)
            return
        if fault is not None and fault.latency_seconds is not None:
            late = threading.Timer(fault.latency_seconds, self._enqueue, [event])
            late.daemon = True
            late.start()
            return
        self._enqueue(event)
        if fault is not None and fault.doubled:
            self._enqueue(event)

    def close(self, deadline_seconds: float) -> None:
        """Deliver waiting events until the deadline."""
        self._enqueue(None)
        self._thread.join(timeout=deadline_seconds)

    def _enqueue(self, event: dict[str, Any] | None) -> None:
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            _LOG.error("lost an event because %d others wait: %s", _MOST_WAITING, _describe(event))

    def _deliver_all(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._deliver(event)
            except Exception:  # noqa: BLE001 - a boundary, see below
                # The boundary of a thread: after any error later events must still be sent.
                _LOG.exception("lost an event: %s", _describe(event))

    def _deliver(self, event: dict[str, Any]) -> None:
        body = json.dumps(event)
        events = self._client("events")
        for rule in _matching_rules(events, body):
            try:
                for target in events.list_targets_by_rule(Rule=rule)["Targets"]:
                    self._send_to(target, body)
            except (BotoCoreError, ClientError) as error:
                _LOG.warning("lost an event for rule %s: %s: %s", rule, _describe(event), error)

    def _send_to(self, target: dict[str, Any], body: str) -> None:
        arn = target["Arn"]
        if not arn.startswith(_SQS_ARN) or any(member in target for member in _INPUT_TRANSFORMATIONS):
            _LOG.warning("no event for target %s: only queues, without transformed input, are supported", arn)
            return
        sqs = self._client("sqs")
        url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=body)

    def _client(self, service: str) -> Any:
        return self._access.client(service, attempts=_CALL_ATTEMPTS, read_seconds=_CALL_SECONDS)


def _matching_rules(events: Any, body: str) -> Iterator[str]:
    """Return the names of the default bus's enabled rules that an event matches."""
    for page in events.get_paginator("list_rules").paginate():
        for rule in page["Rules"]:
            pattern = rule.get("EventPattern")
            if rule["State"] == "ENABLED" and pattern:
                answer = events.test_event_pattern(EventPattern=pattern, Event=body)
                if answer["Result"]:
                    yield rule["Name"]


def _describe(event: dict[str, Any] | None) -> str:
    return "the end of the bus" if event is None else f"{event['detail-type']} of {event['resources']}"
