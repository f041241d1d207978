"""Published batches are measured once outcomes are known, and compared with what their model promised."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

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


def promoted(
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


def prepare(small: SmallModel, partition: str) -> None:
    """Let the features of a partition be there."""
    prefix = partition_features_prefix(small.name, partition)
    small.platform.bucket.put(f"{prefix}run=r/features.json", b"{}")


def put(small: SmallModel, found: MeasuredAccuracy) -> MeasuredAccuracy:
    """Put the document of a batch of the model."""
    own = replace(found, model=small.name)
    small.platform.bucket.put(accuracy_key(small.name, own.partition, own.batch_id), own.to_bytes())
    return own


class Looks:
    """A sensor that looks again and again, and keeps its cursor."""

    def __init__(self, small: SmallModel) -> None:
        self.small = small
        self.cursor: str | None = None

    def look(self, *others: str, moment: datetime | None = None) -> dict[str, dg.RunRequest]:
        """Return the runs that one look asks for, by run key."""
        context = dg.build_sensor_context(cursor=self.cursor)
        found = accuracy_tick(context, self.small.platform, [self.small.name, *others], moment or now())
        self.cursor = found.cursor
        return {str(request.run_key): request for request in found.run_requests or ()}

    def settled(self) -> int:
        """Return up to which publication nothing is left."""
        return AccuracyCursor.parse(self.cursor).settled[self.small.name]


def test_a_published_batch_is_measured_once_the_next_partition_is_prepared(small_model: SmallModel) -> None:
    """The run takes this very batch; it is asked for under one key until its document is there."""
    looks, batch_id = Looks(small_model), publish(small_model, "2013-02-01")
    prepare(small_model, "2013-02-01")
    assert looks.look() == {}
    prepare(small_model, "2013-02-02")
    (request,) = looks.look().values()
    assert (request.job_name, request.partition_key) == (accuracy_job_name(small_model.name), "2013-02-01")
    assert request.tags[MEASURED_BATCH_TAG] == batch_id
    assert looks.look().keys() == {request.run_key}
    assert looks.settled() == 0
    put(small_model, measured(batch_id=batch_id))
    assert looks.look() == {}
    assert looks.settled() == 1


def test_a_batch_that_nothing_was_known_of_is_measured_again_later(small_model: SmallModel) -> None:
    """By the next partition that is prepared, a week ahead at most; after a month nobody waits."""
    looks, batch_id = Looks(small_model), publish(small_model, "2013-02-01")
    prepare(small_model, "2013-02-02")
    put(small_model, measured(value=None, batch_id=batch_id))
    assert looks.look() == {}
    prepare(small_model, "2013-02-09")
    assert looks.look() == {}
    prepare(small_model, "2013-02-05")
    (key,) = looks.look()
    assert key.endswith(":2013-02-05")
    assert looks.settled() == 0
    assert looks.look(moment=now() + timedelta(days=31)) == {}
    assert looks.settled() == 1


def test_a_batch_that_waits_keeps_no_later_one_from_its_measurement(small_model: SmallModel) -> None:
    """A rollback asks for nothing: both batches are measured for themselves."""
    looks = Looks(small_model)
    first, second = publish(small_model, "2013-02-01"), publish(small_model, "2013-02-03")
    prepare(small_model, "2013-02-04")
    (request,) = looks.look().values()
    assert request.tags[MEASURED_BATCH_TAG] == second
    publisher(small_model).roll_back(person(), first)
    prepare(small_model, "2013-02-02")
    assert {request.tags[MEASURED_BATCH_TAG] for request in looks.look().values()} == {first, second}


def test_a_model_that_cannot_be_read_stops_no_other(small_model: SmallModel) -> None:
    """Its error is told, and the next tick begins behind the model that was looked at last."""
    registry = small_model.platform.settings.deployment.registry_table
    item = {"model": {"S": "broken"}, "record": {"S": "publication#000000000001"}, "sequence": {"S": "x"}}
    small_model.platform.client("dynamodb").put_item(TableName=registry, Item=item)
    publish(small_model, "2013-02-01")
    prepare(small_model, "2013-02-02")
    assert len(Looks(small_model).look("broken")) == 1


def test_the_batch_to_measure_is_the_one_published_last_or_named(small_model: SmallModel) -> None:
    """One that is only loaded has no readers to disappoint."""
    registry, partition = small_model.platform.registry, Partition("2013-02-01")
    assert published_batch(registry, small_model.name, partition, named=None) is None
    first, second = publish(small_model, partition), publish(small_model, partition)
    loaded = small_model.verified_batch(partition=partition)

    def chosen(named: str | None) -> str | None:
        found = published_batch(registry, small_model.name, partition, named=named)
        return found and found.batch_id

    assert (chosen(None), chosen(first), chosen(loaded)) == (second, first, None)


def test_a_promoted_version_promises_what_its_verdict_says(small_model: SmallModel) -> None:
    """Of the same metric; a verdict that is gone promises nothing."""
    bucket, registry = small_model.platform.bucket, small_model.platform.registry
    promoted(small_model, 7)
    own = replace(measured(), model=small_model.name)
    assert promise_of(own, registry, bucket, []) is None
    bucket.put(VERDICT_KEY, verdict(8.0).to_bytes())
    assert promise_of(own, registry, bucket, []) == Promise("mae:score", 8.0, "the verdict on version 7")
    bucket.put(VERDICT_KEY, verdict(8.0, "rmse:score").to_bytes())
    assert promise_of(own, registry, bucket, []) is None


def test_a_model_that_nobody_judged_promises_what_its_first_batches_reached(small_model: SmallModel) -> None:
    """The median of three; those of other versions, of later days and without a value do not count."""
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


def test_documents_are_looked_for_ninety_partitions_back(small_model: SmallModel) -> None:
    """A model of many years costs no more than one of a quarter; a damaged document is passed over."""
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
def test_a_batch_is_worse_by_a_share_of_the_promise(
    value: float | None, better: str, level: Level, words: str
) -> None:
    """From the thresholds on, in the direction of the metric."""
    promise = Promise("mae:score", 10.0, "the verdict on version 7")
    finding = accuracy_finding(measured(value=value, better=better), promise, Accuracy(warn=0.1, block=0.5))
    assert finding.level is level
    assert words in finding.text


def test_thresholds_that_are_not_declared_let_everything_pass() -> None:
    """A promise of 0 is compared with as it is."""
    finding = accuracy_finding(measured(value=3.0), Promise("m", 0.0, "it"), Accuracy(warn=None))
    assert (finding.level, finding.worse_by) == (Level.PASS, 3.0)
    without = accuracy_finding(measured(), None, Accuracy())
    assert (without.level, without.promise) == (Level.PASS, None)
    assert "no promise to compare it with" in without.text


def test_accuracy_decays_with_two_worse_batches_of_three_of_the_champion(small_model: SmallModel) -> None:
    """One is chance, and batches of the version before count for nothing."""
    bucket, registry = small_model.platform.bucket, small_model.platform.registry
    declaration = small_model.declaration

    def decayed() -> int:
        return len(decayed_accuracy(bucket, registry, declaration, DIGEST, least=Level.WARN))

    assert not decayed()
    promoted(small_model, 7)
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


def test_further_batches_of_a_version_that_does_badly_wait_for_a_person(
    small_model: SmallModel, tmp_path: Path
) -> None:
    """Two of its measured batches are worse by `block`; batches of another version are published as ever."""
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
    promoted(small_model, 7)
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


def test_dagster_shows_figures_slices_and_a_picture() -> None:
    """Numbers are plotted by Dagster; bars of other versions are grey, and a line is drawn at the promise."""
    own = replace(
        measured(), slices=(MeasuredSlice(column="region", value="north | south", rows=300, metric=8.5),)
    )
    promise = Promise("mae:score", 8.0, "the verdict on version 7")
    finding = accuracy_finding(own, promise, Accuracy())
    shown = accuracy_metadata(own, finding, [measured("2013-01-31", 7.0, digest="other"), own])
    assert (shown["mae:score"], shown["promised"], shown["worse_by"]) == (10.0, 8.0, 0.25)
    assert (shown["rows"], shown["rows_with_outcome"], shown["model_package_version"]) == (100, 90, 7)
    assert "north" in shown["slices"].value
    assert "data:image/svg" in shown["picture"].value
    svg = accuracy_svg("mae<score", [Bar("2013-01-31", 7.0, False), Bar("2013-02-01", 10.0, True)], 8.0)
    assert svg.count("<rect") == 2
    assert svg.count("<line") == 1
    assert "mae<score" not in svg
    many = accuracy_svg("m", [Bar(f"p{number}", -1.0, True) for number in range(99)], None)
    assert (many.count("<rect"), many.count("<line")) == (MAX_BARS, 0)
    assert "p98" in many
    assert accuracy_svg("m", [], None).startswith("<svg")


class MeasuringJobs(SageMakerJobs):
    """A fake at the edge: its jobs succeed at once, and leave the document of the batch that they name."""

    def client(self) -> Any:
        """Return a client whose jobs are done."""
        return self

    def run(self, *, job_name: Any, request: Any, **_: Any) -> Any:
        """Do what a job does."""
        named = request(job_name(1), 1)["AppSpecification"]["ContainerArguments"]
        arguments = AccuracyArguments.parse(named)
        found = replace(measured(value=12.0, batch_id=arguments.batch_id), model=arguments.model)
        key = accuracy_key(arguments.model, found.partition, arguments.batch_id)
        self.platform.bucket.put(key, found.to_bytes())
        return SimpleNamespace(metadata={"job": job_name(1)}, description={})


def test_a_partition_shows_how_its_published_batch_did(small_model: SmallModel) -> None:
    """The check warns beside the figures of the batch that the run names; measured again, by another job."""
    platform = small_model.platform
    promoted(small_model, 7)
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


def test_only_models_whose_outcomes_are_told_and_judged_have_accuracy(tmp_path: Path) -> None:
    """Metrics of `training`, or of `quality.accuracy` for a model that is not trained here."""
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
