"""The sensor of model versions: follows packages, promotes champions by rule, and shows both."""

# No postponed annotations: Dagster compares the context's annotation itself.
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.model_sensors import UnreadableModels, parse_cursor
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.followed_packages import FollowedPackages, follow_packages
from mlpipe_dagster.versions.model_events_queue import ModelEvent, ModelEventsQueue
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.promotion_by_rule import PromotionByRule, promote_by_rule
from mlpipe_dagster.versions.version_events import (
    MAX_SHOWN,
    Event,
    champion_event,
    check_evaluation,
    entries_to_show,
    problems_observation,
    shown_sequence,
    shown_states,
    state_event,
    version_partitions,
    version_verdicts,
)
from prediction_contract.jobs.verdict import InvalidVerdictError, Verdict
from prediction_contract.naming.s3_layout import version_text
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import ModelVersion

# Listing also finds changes whose events were lost.
LIST_EVERY = timedelta(minutes=3)
SENSOR = "model_versions"
_MAX_RECEIVES = 3
# Dagster ends a tick after sixty seconds.
_MAX_SECONDS = 25.0
# How long a registry change that conflicts with others is retried in one tick; the next tick tries again.
_REGISTRY_PATIENCE_SECONDS = 10.0
_MAX_EVENTS = 100


@dataclass(slots=True)
class VersionsCursor:
    """The sensor's state between ticks.

    Attributes:
        began_at: When the listing of all models began, in seconds since 1970.
        after: The last model that was listed; empty once all are.
        shown: By model, a digest of the version states that Dagster shows, and the number of the newest entry
            of the champion's history that it shows.
        reported: By model, a digest of the problems with its packages that were already reported.
        errors: By model, why the last attempt to examine it failed.
    """

    began_at: int = 0
    after: str = ""
    shown: dict[str, tuple[str, int]] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "VersionsCursor":
        """Parse a sensor's cursor; an invalid one counts as empty."""

        def read(document: Any) -> VersionsCursor:
            return cls(
                began_at=int(document["began_at"]),
                after=str(document["after"]),
                shown={model: (str(of), int(to)) for model, (of, to) in document["shown"].items()},
                reported={str(model): str(of) for model, of in document["told"].items()},
                errors={str(model): str(why) for model, why in document["errors"].items()},
            )

        return parse_cursor(text, read, cls())

    def text(self) -> str:
        """Return the cursor in the form that the sensor stores."""
        document = {
            "began_at": self.began_at,
            "after": self.after,
            "shown": self.shown,
            "told": self.reported,
            "errors": self.errors,
        }
        return json.dumps(document, separators=(",", ":"))


@dataclass(kw_only=True)
class VersionsTick:
    """One tick: reads the queue and examines the models that are due.

    Attributes:
        context: Dagster's context with the cursor of an earlier tick.
        platform: The resources and settings.
        packages: SageMaker's model packages.
        registry: The registry.
        bucket: The data bucket.
        queue: The queue of model events.
        models: The models that have versions.
        now: The current time.
        clock: A monotonic clock, in seconds.
    """

    context: dg.SensorEvaluationContext
    platform: Platform
    packages: ModelPackages
    registry: RegistryTable
    bucket: DataBucket
    queue: ModelEventsQueue
    models: list[str]
    now: datetime
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Begin with the state that the last tick left."""
        self._began = self.clock()
        self._cursor = VersionsCursor.parse(self.context.cursor)
        self._unreadable = UnreadableModels()
        self._events: list[Event] = []
        self._added: list[dg.AddDynamicPartitionsRequest] = []
        self._seen: set[str] = set()
        self._summary: list[str] = []

    def result(self) -> dg.SensorResult:
        """Examine the models, and return the result for Dagster.

        Raises:
            ModelsUnreadableError: A model cannot be examined, and no other model has changed.
        """
        self._process_events()
        self._examine_all()
        # A model that was not examined keeps its error, so ticks between two listings fail as well.
        for model, error in self._cursor.errors.items():
            if model in self.models and model not in self._seen:
                self._unreadable.errors.setdefault(model, error)
        self._cursor.errors = dict(self._unreadable.errors)
        for kept in (self._cursor.shown, self._cursor.reported):
            for model in kept.keys() - set(self.models):
                del kept[model]
        return self._unreadable.result(
            self.context.cursor,
            "; ".join(self._summary) or "No model version has changed",
            cursor=self._cursor.text(),
            events=self._events,
            partitions=self._added,
        )

    def _process_events(self) -> None:
        """Examine the models that events name, then delete the events that the registry has recorded."""
        events = self._receive_all()
        targets = self._targets()
        named: dict[str, set[int]] = {}
        for event in events:
            if event.resource is None:
                self.context.log.warning(
                    "Message %s names no package or execution; the dead-letter queue gets it",
                    event.message_id,
                )
            elif model := targets.get(event.resource):
                named.setdefault(model, set()).update({event.version} if event.version else ())
        for model, versions in named.items():
            if not self._is_late():
                self._examine(model, versions)
        # Events may be deleted although this tick can still fail: the next one reads the registry again.
        settled = [
            event
            for event in events
            if event.resource is not None
            and (event.resource not in targets or targets[event.resource] in self._seen)
        ]
        if settled:
            self._ask_queue(lambda: self.queue.delete(settled))

    def _receive_all(self) -> list[ModelEvent]:
        found: list[ModelEvent] = []

        def receive() -> None:
            for _ in range(_MAX_RECEIVES):
                received = self.queue.receive()
                found.extend(received)
                if not received:
                    break

        self._ask_queue(receive)
        return found

    def _ask_queue(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except Exception as error:  # the listing finds the changes anyway
            self.context.log.exception("The queue of model events does not answer")
            self._summary.append(f"The queue of model events does not answer: {error}")

    def _targets(self) -> dict[str, str]:
        """Return the models by their package groups and by their retraining pipelines."""
        deployment = self.platform.settings.deployment
        groups = {deployment.model_package_group(model): model for model in self.models}
        return groups | {deployment.retraining_pipeline(model): model for model in self.models}

    def _examine_all(self) -> None:
        """Examine all models every few minutes; if time runs out, later ticks continue."""
        cursor, moment = self._cursor, int(self.now.timestamp())
        if not cursor.after and moment - cursor.began_at < LIST_EVERY.total_seconds():
            return
        began_at = cursor.began_at if cursor.after else moment
        for model in sorted(self.models):
            if model <= cursor.after:
                continue
            if self._is_late():
                return
            if model not in self._seen:
                self._examine(model, ())
            cursor.began_at, cursor.after = began_at, model
        cursor.began_at, cursor.after = began_at, ""

    def _examine(self, model: str, named: Iterable[int]) -> None:
        """Follow a model's packages, promote by rule, and collect events that Dagster lacks."""
        with self._unreadable.collect(model):
            followed = follow_packages(self.packages, self.registry, model, named=set(named))
            promotion = promote_by_rule(
                self.registry, model, followed.versions.values(), actor=SENSOR, now=self.now
            )
            self._seen.add(model)
            versions = followed.versions
            if promotion.promoted is not None:
                self._summary.append(f"{model}: version {promotion.promoted} is the champion")
                versions = {record.version: record for record in self.registry.model_versions(model)}
            digest, sequence = self._cursor.shown.get(model, ("", 0))
            self._cursor.shown[model] = (
                self._show_states(model, versions, digest),
                self._show_champions(model, versions, sequence),
            )
            self._report_problems(model, followed, promotion)

    def _show_states(self, model: str, versions: Mapping[int, ModelVersion], digest: str) -> str:
        """Collect an event for each state that Dagster does not show; return a digest of the shown states."""
        states = [(version, str(versions[version].state)) for version in sorted(versions)]
        present = _digest(states)
        if present == digest:
            return present
        shown = shown_states(self.context.instance, model, versions)
        changed = [versions[version] for version, state in states if shown.get(version) != state]
        for version in changed[:MAX_SHOWN]:
            verdict = self._verdict(version)
            self._events.append(state_event(self.platform, version, verdict))
            if version.version not in shown:
                found = version_verdicts(self.bucket, version, verdict)
                self._events += [check_evaluation(version, check, what) for check, what in found.items()]
        if changed:
            keys = [version_text(version.version) for version in changed[:MAX_SHOWN]]
            self._added.append(version_partitions(model).build_add_request(keys))
        return present if len(changed) <= MAX_SHOWN else ""

    def _show_champions(self, model: str, versions: Mapping[int, ModelVersion], sequence: int) -> int:
        """Collect an event for each champion change that Dagster lacks; return the last one's number."""
        pointer = self.registry.champion(model)
        if pointer is None or pointer.sequence == sequence:
            return sequence
        after = max(sequence, shown_sequence(self.context.instance, model))
        entries = entries_to_show(self.context.instance, self.registry, model, after=after, now=self.now)
        for entry in entries:
            version = versions.get(entry.version or 0)
            verdict = self._verdict(version) if version else None
            self._events.append(champion_event(self.platform, entry, version, verdict))
        return max(after, *(entry.sequence for entry in entries), 0)

    def _verdict(self, version: ModelVersion) -> Verdict | None:
        try:
            return self.packages.verdict(version.verdict_key) if version.verdict_key else None
        except InvalidVerdictError as error:
            self.context.log.warning(
                "The verdict %s cannot be read, so it is not shown: %s", version.verdict_key, error
            )
            return None

    def _report_problems(self, model: str, followed: FollowedPackages, promotion: PromotionByRule) -> None:
        """Report new problems that a person has to look at."""
        arn = self.packages.arn
        problems = [
            *followed.unusable.values(),
            *(f"The model package {arn(model, version)} was deleted" for version in followed.deleted),
            *(f"Not promoted by rule: {reason}" for reason in promotion.waiting.values()),
        ]
        if not problems:
            self._cursor.reported.pop(model, None)
            return
        self._summary += [f"{model}: {problem}" for problem in problems]
        if self._cursor.reported.get(model) != (reported := _digest(problems)):
            self._cursor.reported[model] = reported
            self._events.append(problems_observation(model, problems))

    def _is_late(self) -> bool:
        return self.clock() - self._began > _MAX_SECONDS or len(self._events) > _MAX_EVENTS


def _digest(of: object) -> str:
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]


def model_versions_tick(
    context: dg.SensorEvaluationContext,
    platform: Platform,
    models: Iterable[str],
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> dg.SensorResult:
    """Run one tick of the sensor of model versions."""
    settings = platform.settings
    bucket = DataBucket(platform.tick_client("s3"), settings.data_bucket)
    tick = VersionsTick(
        context=context,
        platform=platform,
        packages=ModelPackages(platform.tick_client("sagemaker"), settings.deployment, bucket),
        registry=RegistryTable(
            platform.tick_client("dynamodb"),
            settings.deployment.registry_table,
            patience_seconds=_REGISTRY_PATIENCE_SECONDS,
        ),
        bucket=bucket,
        queue=ModelEventsQueue(platform.tick_client("sqs"), settings.model_events_queue_url),
        models=sorted(models),
        now=now,
        clock=clock,
    )
    return tick.result()


def model_versions_sensor(models: Iterable[str]) -> dg.SensorDefinition:
    """Return the sensor over all models that have versions."""
    names = sorted(models)

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records model packages and their approval, promotes versions by rule, and shows both.",
    )
    def model_versions(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return model_versions_tick(context, platform, names, datetime.now(UTC))

    return model_versions
