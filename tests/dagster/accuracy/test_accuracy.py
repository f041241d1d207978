"""Published batches are measured once outcomes are known, and compared with the promised accuracy."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.accuracy import accuracy_sensor
from mlpipe_dagster.accuracy.accuracy_asset import (
    accuracy_asset,
    accuracy_metadata,
    has_accuracy,
    published_batch,
)
from mlpipe_dagster.accuracy.accuracy_documents import AccuracyDocuments
from mlpipe_dagster.accuracy.accuracy_picture import MAX_BARS, Bar, accuracy_svg
from mlpipe_dagster.accuracy.accuracy_rules import (
    FIRST_BATCHES,
    Promise,
    accuracy_finding,
    decayed_accuracy,
    promise_of,
)
from mlpipe_dagster.accuracy.accuracy_sensor import AccuracyCursor, accuracy_tick
from mlpipe_dagster.pipeline.asset_names import MEASURED_BATCH_TAG, accuracy_job_name
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.pipeline.model_sensors import ModelsUnreadableError
from mlpipe_dagster.quality.batch_examination import Examination
from mlpipe_dagster.quality.quality_checks import examine_batch
from mlpipe_dagster.quality.quality_rules import BatchFacts
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from model_declaration.quality import Accuracy
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.jobs.verdict import MetricComparison, Verdict
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy, MeasuredMetric, MeasuredSlice
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import accuracy_key, partition_features_prefix
from prediction_contract.registry import version_rules
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_records import ModelVersion
from tests.dagster.publication.test_publication_interleavings import person, publisher
from tests.dagster.small_model import declaration, now

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack

DIGEST = "0123456789abcdef"
VERDICT_KEY = "models/m/retraining/e/verdict.json"


def measured(
    partition: str = "2013-02-01",
    value: float | None = 10.0,
    *,
    batch_id: str = "20130201T060000Z-0123abcd",
    version: int | None = 7,
    digest: str = DIGEST,
    better: str = "lower",
    known_at: str = "2013-02-02",
) -> MeasuredAccuracy:
    """Return the accuracy of a batch."""
    known = 0 if value is None else 90
    return MeasuredAccuracy(
        model="m",
        partition=partition,
        batch_id=batch_id,
        model_version=digest,
        version_number=version,
        known_at=known_at,
        rows=100,
        known_rows=known,
        metrics=(MeasuredMetric(name="mae:score", better=better, rows=known, value=value),),
    )


def verdict(value: float, name: str = "mae:score") -> Verdict:
    """Return the verdict that a version was promoted with."""
    metric = MetricComparison(
        name=name,
        better="lower",
        rows=500,
        candidate=value,
        champion=None,
        gain=None,
        gain_low=None,
        baselines={},
        beats_baselines=True,
    )
    return Verdict(
        model="m",
        execution_id="e",
        candidate_digest=DIGEST,
        candidate_key="k",
        candidate_sha256="0" * 64,
        champion_version=0,
        champion_digest="",
        trained_until="2013-01-31",
        first_held_out="2013-01-20",
        last_held_out="2013-01-31",
        is_new=1,
        better=1,
        worse_slices=0,
        needs_person=0,
        approval="Approved",
        reason="Better",
        metrics=(metric,),
    )


def make_champion(
    small: SmallModel, version: int, digest: str = DIGEST, *, verdict_key: str | None = VERDICT_KEY
) -> None:
    """Make a version the champion."""
    registry = small.platform.registry
    found = ModelVersion(
        model=small.name,
        version=version,
        state="approved",
        digest=digest,
        artifact_key="models/m/candidates/j/output/model.tar.gz",
        artifact_sha256="0" * 64,
        package_arn=f"arn:aws:sagemaker:us-east-1:111111111111:model-package/m/{version}",
        approval="Approved",
        created_at="2013-01-31T00:00:00Z",
        verdict_key=verdict_key,
    )
    registry.carry_out(lambda: version_rules.record_version(None, found))
    request = ChangeRequest(request_id=f"promote-{version}", actor="ada")
    registry.carry_out(
        lambda: version_rules.promote(found, registry.champion(small.name), request, now=now())
    )


def publish(small: SmallModel, partition: str) -> str:
    """Publish a batch of a partition, and return its id."""
    batch_id = small.verified_batch(partition=partition)
    publisher(small).publish(batch_id, person(), "{}")
    return batch_id


def mark_prepared(small: SmallModel, partition: str) -> None:
    """Store the last file of a partition's features, which marks it as prepared."""
    prefix = partition_features_prefix(small.name, partition)
    small.platform.bucket.put(f"{prefix}run=r/features.json", b"{}")


def put(small: SmallModel, found: MeasuredAccuracy) -> MeasuredAccuracy:
    """Store an accuracy document as one of the small model, and return it."""
    own = replace(found, model=small.name)
    small.platform.bucket.put(accuracy_key(small.name, own.partition, own.batch_id), own.to_bytes())
    return own


class AccuracySensor:
    """Runs ticks of the accuracy sensor and keeps its cursor between them."""

    def __init__(self, small: SmallModel) -> None:
        self.small = small
        self.cursor: str | None = None

    def look(self, *others: str, moment: datetime | None = None) -> dict[str, dg.RunRequest]:
        """Return the run requests of one tick, by run key; assert that no key is repeated."""
        context = dg.build_sensor_context(cursor=self.cursor)
        found = accuracy_tick(context, self.small.platform, [self.small.name, *others], moment or now())
        self.cursor = found.cursor
        requests = {str(request.run_key): request for request in found.run_requests or ()}
        assert len(requests) == len(found.run_requests or ())
        return requests

    def settled(self) -> int:
        """Return the publication number up to which no batch needs measuring."""
        return AccuracyCursor.parse(self.cursor).settled[self.small.name]


def test_published_batch_is_measured_once_the_next_partition_is_prepared(small_model: SmallModel) -> None:
    """Each tick requests the same run for this batch until its accuracy document exists."""
    sensor, batch_id = AccuracySensor(small_model), publish(small_model, "2013-02-01")
    mark_prepared(small_model, "2013-02-01")
    assert sensor.look() == {}
    mark_prepared(small_model, "2013-02-02")
    (request,) = sensor.look().values()
    assert (request.job_name, request.partition_key) == (accuracy_job_name(small_model.name), "2013-02-01")
    assert request.tags[MEASURED_BATCH_TAG] == batch_id
    assert sensor.look().keys() == {request.run_key}
    assert sensor.settled() == 0
    put(small_model, measured(batch_id=batch_id))
    assert sensor.look() == {}
    assert sensor.settled() == 1


def test_batch_without_outcomes_is_measured_again_later(small_model: SmallModel) -> None:
    """A new try needs another prepared partition at most a week ahead; after a month tries end."""
    sensor, batch_id = AccuracySensor(small_model), publish(small_model, "2013-02-01")
    mark_prepared(small_model, "2013-02-02")
    put(small_model, measured(value=None, batch_id=batch_id))
    assert sensor.look() == {}
    mark_prepared(small_model, "2013-02-09")
    assert sensor.look() == {}
    mark_prepared(small_model, "2013-02-05")
    (key,) = sensor.look()
    assert key.endswith(":2013-02-05")
    assert sensor.settled() == 0
    assert sensor.look(moment=now() + timedelta(days=31)) == {}
    assert sensor.settled() == 1


def test_waiting_batch_does_not_delay_later_ones(small_model: SmallModel) -> None:
    """Each batch is requested once its own next partition is prepared, even after a rollback."""
    sensor = AccuracySensor(small_model)
    first, second = publish(small_model, "2013-02-01"), publish(small_model, "2013-02-03")
    mark_prepared(small_model, "2013-02-04")
    (request,) = sensor.look().values()
    assert request.tags[MEASURED_BATCH_TAG] == second
    publisher(small_model).roll_back(person(), first)
    assert sensor.look().keys() == {request.run_key}
    mark_prepared(small_model, "2013-02-02")
    found = [request.tags[MEASURED_BATCH_TAG] for request in sensor.look().values()]
    assert sorted(found) == sorted([first, second])


def test_unreadable_model_does_not_stop_other_models(small_model: SmallModel) -> None:
    """Another model is measured, and the error is shown by a tick with nothing else to report."""
    registry = small_model.platform.settings.deployment.registry_table
    item = {"model": {"S": "broken"}, "record": {"S": "publication#000000000001"}, "sequence": {"S": "x"}}
    small_model.platform.client("dynamodb").put_item(TableName=registry, Item=item)
    sensor, batch_id = AccuracySensor(small_model), publish(small_model, "2013-02-01")
    mark_prepared(small_model, "2013-02-02")
    assert len(sensor.look("broken")) == 1
    put(small_model, measured(batch_id=batch_id))
    assert sensor.look("broken") == {}
    with pytest.raises(ModelsUnreadableError, match="broken cannot be examined"):
        sensor.look("broken")


def test_tick_begins_after_the_model_that_the_last_one_reached(
    small_model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a tick's time is over after one model, the next tick examines the next one."""
    monkeypatch.setattr(accuracy_sensor, "_TICK_SECONDS", 0)
    sensor, _ = AccuracySensor(small_model), publish(small_model, "2013-02-01")
    mark_prepared(small_model, "2013-02-02")
    assert [len(sensor.look("another")) for _ in range(4)] == [0, 1, 0, 1]


def test_latest_or_named_published_batch_is_measured(small_model: SmallModel) -> None:
    """A batch that is only loaded is never measured, since no reader got it."""
    registry, partition = small_model.platform.registry, Partition("2013-02-01")
    assert published_batch(registry, small_model.name, partition, named=None) is None
    first, second = publish(small_model, partition), publish(small_model, partition)
    loaded = small_model.verified_batch(partition=partition)

    def chosen(named: str | None) -> str | None:
        found = published_batch(registry, small_model.name, partition, named=named)
        return found and found.batch_id

    assert (chosen(None), chosen(first), chosen(loaded)) == (second, first, None)


def test_promise_comes_from_the_verdict_on_the_version(small_model: SmallModel) -> None:
    """A missing verdict, or one on another metric, promises nothing."""
    bucket, registry = small_model.platform.bucket, small_model.platform.registry
    make_champion(small_model, 7)
    own = replace(measured(), model=small_model.name)
    assert promise_of(own, registry, bucket, []) is None
    bucket.put(VERDICT_KEY, verdict(8.0).to_bytes())
    assert promise_of(own, registry, bucket, []) == Promise("mae:score", 8.0, "the verdict on version 7")
    bucket.put(VERDICT_KEY, verdict(8.0, "rmse:score").to_bytes())
    assert promise_of(own, registry, bucket, []) is None


def test_promise_without_verdict_is_median_of_first_batches(small_model: SmallModel) -> None:
    """Batches of other versions or without a value do not count, and fewer than three promise nothing."""
    values = [("01", 9.0), ("02", 1.0), ("03", None), ("04", 5.0), ("05", 6.0), ("06", 50.0), ("07", 99.0)]
    for day, value in values:
        digest = "other" if day == "01" else DIGEST
        put(small_model, measured(f"2013-02-{day}", value, version=None, digest=digest))
    documents = AccuracyDocuments(small_model.platform.bucket, small_model.name)
    registry, bucket = small_model.platform.registry, small_model.platform.bucket
    own = documents.find("2013-02-06", measured().batch_id)
    assert own is not None
    until = [each.partition for each in documents.up_to(Partition("2013-02-06"))]
    assert until == [f"2013-02-0{day}" for day in range(1, 7)]
    own = replace(own, batch_id="20130206T060000Z-0123abcd")
    found = promise_of(own, registry, bucket, documents.up_to(Partition("2013-02-06")))
    assert found == Promise("mae:score", 5.0, f"the median of the model's first {FIRST_BATCHES} batches")
    assert promise_of(own, registry, bucket, documents.up_to(Partition("2013-02-04"))) is None


def test_documents_are_read_ninety_partitions_back(small_model: SmallModel) -> None:
    """A model with years of history costs no more, and a damaged document is skipped."""
    for partition in ("2012-11-02", "2012-11-03", "2013-02-01"):
        put(small_model, measured(partition))
    small_model.platform.bucket.put(
        accuracy_key(small_model.name, "2013-01-15", measured().batch_id), b"no JSON"
    )
    documents = AccuracyDocuments(small_model.platform.bucket, small_model.name)
    found = [each.partition for each in documents.up_to(Partition("2013-02-01"))]
    assert found == ["2012-11-03", "2013-02-01"]


@pytest.mark.parametrize(
    ("value", "better", "level", "words"),
    [
        (10.0, "lower", Level.PASS, "mae:score is 10, the same as the promised 10 (the verdict"),
        (9.0, "lower", Level.PASS, "10.0% better than the promised 10"),
        (10.9, "lower", Level.PASS, "9.0% worse than the promised 10"),
        (11.0, "lower", Level.WARN, "10.0% worse than the promised 10"),
        (15.0, "lower", Level.BLOCK, "50.0% worse than the promised 10"),
        (9.0, "higher", Level.WARN, "10.0% worse than the promised 10"),
        (12.0, "higher", Level.PASS, "20.0% better than the promised 10"),
        (None, "lower", Level.PASS, "cannot be computed yet: 0 of 100 rows have an outcome"),
    ],
)
def test_loss_of_accuracy_is_a_share_of_the_promise(
    value: float | None, better: str, level: Level, words: str
) -> None:
    """A batch warns or blocks from the threshold on, whichever direction of the metric is better."""
    promise = Promise("mae:score", 10.0, "the verdict on version 7")
    finding = accuracy_finding(measured(value=value, better=better), promise, Accuracy(warn=0.1, block=0.5))
    assert finding.level is level
    assert words in finding.text


def test_everything_passes_without_threshold_or_promise() -> None:
    """The loss from a promise of 0 is the absolute difference, since a share of 0 is undefined."""
    finding = accuracy_finding(measured(value=3.0), Promise("m", 0.0, "it"), Accuracy(warn=None))
    assert (finding.level, finding.worse_by) == (Level.PASS, 3.0)
    without = accuracy_finding(measured(), None, Accuracy())
    assert (without.level, without.promise) == (Level.PASS, None)
    assert "no promise to compare it with" in without.text


def test_accuracy_decays_when_two_of_three_champion_batches_are_worse(small_model: SmallModel) -> None:
    """One worse batch is chance, and batches of an earlier version do not count."""
    bucket, registry = small_model.platform.bucket, small_model.platform.registry
    declaration = small_model.declaration

    def decayed() -> int:
        return len(decayed_accuracy(bucket, registry, declaration, DIGEST, least=Level.WARN))

    assert not decayed()
    make_champion(small_model, 7)
    bucket.put(VERDICT_KEY, verdict(10.0).to_bytes())

    def deliver(day: int, value: float | None, digest: str = DIGEST) -> int:
        partition = f"2013-02-{day:02}"
        put(small_model, measured(partition, value, batch_id=publish(small_model, partition), digest=digest))
        return decayed()

    assert [deliver(1, 99.0, "older"), deliver(2, 99.0, "older"), deliver(3, 12.0)] == [0, 0, 0]
    assert [deliver(4, 10.0), deliver(5, None), deliver(6, 12.0)] == [0, 0, 2]
    assert [deliver(7, 10.0), deliver(8, 10.0)] == [0, 0]
    deliver(9, 12.0)
    assert deliver(10, 12.0) == 2
    assert decayed_accuracy(bucket, registry, declaration, "f" * 16, least=Level.WARN) == ()
    assert decayed_accuracy(bucket, registry, declaration, DIGEST, least=Level.BLOCK) == ()


def test_inaccurate_version_blocks_its_further_batches(small_model: SmallModel, tmp_path: Path) -> None:
    """Two batches worse by `block` give the version's next batch check faults, but no other version's."""
    folder = tmp_path / "acme" / "defs" / small_model.name
    folder.mkdir(parents=True)
    (folder / "outcomes.py").touch()
    declared = declaration(
        small_model.name,
        folder=folder,
        lookback=0,
        model={"from": "registry"},
        training=None,
        quality={
            "accuracy": {"block": 0.5, "metrics": [{"kind": "mae", "predicted": "score", "actual": "real"}]}
        },
    )
    make_champion(small_model, 7)
    small_model.platform.bucket.put(VERDICT_KEY, verdict(10.0).to_bytes())
    examined = Examination(
        facts=BatchFacts(rows=3, columns={}), live_batch_id=None, by_column=[], against_live=[], drift=[]
    )
    examiner: Any = SimpleNamespace(declaration=declared, examine=lambda *_, **__: examined)

    def faults(model_version: str) -> str | None:
        record = small_model.record(small_model.verified_batch(model_version=model_version))
        manifest = small_model.manifest(record.batch_id, model_version=model_version)
        examine_batch(examiner, small_model.platform, record, manifest)
        return small_model.record(record.batch_id).check_faults

    for day, expected in ((1, 0), (2, 2)):
        partition = f"2013-02-{day:02}"
        put(small_model, measured(partition, 15.0, batch_id=publish(small_model, partition)))
        found = faults(DIGEST)
        assert (found or "").count("50.0% worse than the promised 10 (the verdict on version 7)") == expected
    assert faults("f" * 16) is None


def test_metadata_holds_figures_slices_and_a_picture() -> None:
    """Dagster can plot the figures; the picture has a bar per batch, grey for other versions, and a line."""
    own = replace(
        measured(), slices=(MeasuredSlice(column="region", value="north | south", rows=300, metric=8.5),)
    )
    promise = Promise("mae:score", 8.0, "the verdict on version 7")
    finding = accuracy_finding(own, promise, Accuracy())
    shown = accuracy_metadata(own, finding, [measured("2013-01-31", 7.0, digest="other"), own])
    assert (shown["mae:score"], shown["promised"], shown["worse_by"]) == (10.0, 8.0, 0.25)
    assert (shown["rows"], shown["rows_with_outcome"], shown["model_package_version"]) == (100, 90, 7)
    assert "north" in shown["slices"].value
    picture = b64decode(shown["picture"].value.partition("base64,")[2].rstrip(")")).decode()
    assert (picture.count('"#d0d0d0"/>'), picture.count('"#1f77b4"/>')) == (1, 1)
    svg = accuracy_svg("mae<score", [Bar("2013-01-31", 7.0, False), Bar("2013-02-01", 10.0, True)], 8.0)
    assert svg.count("<rect") == 2
    assert (svg.count('"#d0d0d0"/>'), svg.count('"#1f77b4"/>'), svg.count("<line")) == (1, 1, 1)
    assert "mae<score" not in svg
    many = accuracy_svg("m", [Bar(f"p{number}", -1.0, True) for number in range(99)], None)
    assert (many.count("<rect"), many.count("<line")) == (MAX_BARS, 0)
    assert "p98" in many
    assert accuracy_svg("m", [], None).startswith("<svg")


class MeasuringJobs(SageMakerJobs):
    """Fakes SageMaker: each job succeeds at once and leaves the accuracy document of its batch."""

    def client(self) -> Any:
        """Return this fake, which is its own client."""
        return self

    def run(self, *, job_name: Any, request: Any, **_: Any) -> Any:
        """Store the accuracy document that a real job would write."""
        named = request(job_name(1), 1)["AppSpecification"]["ContainerArguments"]
        arguments = AccuracyArguments.parse(named)
        found = replace(measured(value=12.0, batch_id=arguments.batch_id), model=arguments.model)
        key = accuracy_key(arguments.model, found.partition, arguments.batch_id)
        self.platform.bucket.put(key, found.to_bytes())
        return SimpleNamespace(metadata={"job": job_name(1)}, description={})


def test_asset_shows_accuracy_of_the_published_batch(small_model: SmallModel) -> None:
    """A run measures the latest batch or the one it names, and fails if none was published."""
    platform = small_model.platform
    make_champion(small_model, 7)
    platform.bucket.put(VERDICT_KEY, verdict(10.0).to_bytes())
    first, second = publish(small_model, "2013-02-01"), publish(small_model, "2013-02-01")
    asset = accuracy_asset(small_model.declaration, small_model.partitions)
    resources = {"platform": platform, "sagemaker_jobs": MeasuringJobs(platform=platform)}
    jobs = set()
    with dg.DagsterInstance.ephemeral() as instance:
        for tags, batch_id in (({}, second), ({MEASURED_BATCH_TAG: first}, first)):
            done = dg.materialize(
                [asset], partition_key="2013-02-01", instance=instance, resources=resources, tags=tags
            )
            (event,) = done.get_asset_materialization_events()
            metadata = event.materialization.metadata
            assert (metadata["batch_id"].value, metadata["mae:score"].value) == (batch_id, 12.0)
            assert metadata["worse_by"].value == pytest.approx(0.2)
            jobs.add(metadata["job"].value)
            (check,) = done.get_asset_check_evaluations()
            assert (check.check_name, check.passed, check.severity) == (
                "accuracy_holds",
                False,
                dg.AssetCheckSeverity.WARN,
            )
            assert "20.0% worse than the promised 10 (the verdict on version 7)" in str(check.description)
        assert len(jobs) == 2
        unpublished = dg.materialize(
            [asset], partition_key="2013-02-02", instance=instance, resources=resources, raise_on_error=False
        )
        assert not unpublished.success
        (failure,) = unpublished.get_step_failure_events()
        assert "No batch of 2013-02-02 was published" in str(failure.event_specific_data)


def test_accuracy_needs_outcomes_and_metrics(tmp_path: Path) -> None:
    """Metrics come from `training`, or from `quality.accuracy` for a model that is trained elsewhere."""
    metrics = [{"kind": "mae", "predicted": "score", "actual": "spent"}]
    trained = {"window": 3, "held_out": 2, "metrics": metrics}
    folder = tmp_path / "acme" / "defs" / "m"
    folder.mkdir(parents=True)
    told: dict[str, Any] = {"folder": folder, "lookback": 0}
    assert not has_accuracy(declaration("m", training=trained))
    (folder / "outcomes.py").touch()
    assert not has_accuracy(declaration("m", **told, training={"window": 3, "held_out": 2}))
    assert has_accuracy(declaration("m", **told, training=trained))
    elsewhere = {
        "model": {"from": "registry"},
        "training": None,
        "quality": {"accuracy": {"metrics": metrics}},
    }
    assert has_accuracy(declaration("m", **told, **elsewhere))
