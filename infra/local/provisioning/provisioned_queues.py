"""The queues that sensors read, their dead-letter queue and the rules that feed them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import none_on_error
from infra.permissions.policy_statements import POLICY_VERSION

if TYPE_CHECKING:
    from infra.definitions.resource_definitions import QueueDefinition

_LOG = logging.getLogger(__name__)
_TARGET_ID = "queue"


def ensure_queue(
    sqs: Any,
    queue: QueueDefinition,
    *,
    dead_letter_arn: str | None = None,
    policy_statement: dict[str, Any] | None = None,
) -> str:
    """Create the queue or update its attributes to the definition; return its URL."""
    attributes = {
        "VisibilityTimeout": str(queue.visibility_timeout_seconds),
        "MessageRetentionPeriod": str(queue.retention_seconds),
        "SqsManagedSseEnabled": str(queue.sse_managed).lower(),
    }
    if dead_letter_arn is not None:
        attributes["RedrivePolicy"] = json.dumps(
            {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": queue.max_receives}
        )
    if policy_statement is not None:
        attributes["Policy"] = json.dumps({"Version": POLICY_VERSION, "Statement": [policy_statement]})
    # Without attributes the call also succeeds if the queue exists.
    url = sqs.create_queue(QueueName=queue.name)["QueueUrl"]
    current = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})
    changed = {name: value for name, value in attributes.items() if not _same(current.get(name), value)}
    if changed:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
        _LOG.info("set %s of queue %s", ", ".join(sorted(changed)), queue.name)
    return url


def _same(current: str | None, wanted: str) -> bool:
    if current == wanted:
        return True
    if current is None or not wanted.startswith("{"):
        return False
    # A service may reorder a document's keys.
    return _with_text_numbers(json.loads(current)) == _with_text_numbers(json.loads(wanted))


def _with_text_numbers(document: dict[str, Any]) -> dict[str, Any]:
    # SQS returns maxReceiveCount as a text or a number, depending on how it was written.
    return {key: str(value) if isinstance(value, int) else value for key, value in document.items()}


def ensure_rule(events: Any, name: str, *, pattern: dict[str, Any], queue_arn: str) -> None:
    """Create or repair the rule on the default bus, so that it is enabled and sends only to the queue."""
    if not _rule_holds(events, name, pattern):
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")
        _LOG.info("set rule %s", name)
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    if [(target["Id"], target["Arn"]) for target in targets] == [(_TARGET_ID, queue_arn)]:
        return
    foreign = [target["Id"] for target in targets if target["Id"] != _TARGET_ID]
    if foreign:
        # A second target on the same queue would deliver every event twice.
        events.remove_targets(Rule=name, Ids=foreign)
    events.put_targets(Rule=name, Targets=[{"Id": _TARGET_ID, "Arn": queue_arn}])
    _LOG.info("set the target of rule %s to %s", name, queue_arn)


def _rule_holds(events: Any, name: str, pattern: dict[str, Any]) -> bool:
    rule = none_on_error("ResourceNotFoundException", events.describe_rule, Name=name) or {}
    return rule.get("State") == "ENABLED" and json.loads(rule.get("EventPattern") or "{}") == pattern
