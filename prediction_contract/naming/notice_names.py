"""Names of what tells of something: the queues of done files, alarms and their topics."""

from __future__ import annotations

from prediction_contract.naming.deployment_scope import Place


class NoticeNames(Place):
    """Names of what tells of something: the queues of done files, alarms and their topics."""

    __slots__ = ()

    @property
    def done_file_rule(self) -> str:
        """The EventBridge rule that notices done files, on the default bus."""
        return self._name("done-files")

    @property
    def done_file_rule_arn(self) -> str:
        """The rule's ARN."""
        return self._arn("events", f"rule/{self.done_file_rule}")

    @property
    def done_file_queue(self) -> str:
        """The queue that the sensor reads."""
        return self._name("done-files")

    @property
    def done_file_queue_arn(self) -> str:
        """The queue's ARN."""
        return self._arn("sqs", self.done_file_queue)

    @property
    def dead_letter_queue(self) -> str:
        """The queue that takes what the sensor could not handle after several receives."""
        return self._name("done-files-dead")

    @property
    def dead_letter_queue_arn(self) -> str:
        """The dead-letter queue's ARN."""
        return self._arn("sqs", self.dead_letter_queue)

    @property
    def alarm_topic(self) -> str:
        """The SNS topic that alarms are sent to."""
        return self._name("alarms")

    @property
    def alarm_topic_arn(self) -> str:
        """The topic's ARN in this region."""
        return self._arn("sns", self.alarm_topic)

    def alarm(self, what: str) -> str:
        """Return the name of an alarm about something, say `api-errors`."""
        return self._name(what)

    def alarm_arn(self, what: str) -> str:
        """Return the ARN of an alarm in this region."""
        return self._arn("cloudwatch", f"alarm:{self.alarm(what)}")
