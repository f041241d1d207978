"""The rules of accuracy: what a model version promised, and whether a published batch kept it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from mlpipe_dagster.accuracy.accuracy_documents import AccuracyDocuments
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectMissingError
from model_declaration.declaration import ModelDeclaration
from model_declaration.quality import Accuracy
from prediction_contract.jobs.verdict import InvalidVerdictError, Verdict
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.table import RegistryTable

# For a model without a verdict, this many batches set the standard.
FIRST_BATCHES = 3
# A single bad batch may be chance.
_WORSE_BATCHES, _EXAMINED_BATCHES = 2, 3
_NEWEST_PUBLICATIONS = 30


@dataclass(frozen=True, slots=True)
class Promise:
    """The value that a version's batches are compared with.

    Attributes:
        metric: The metric's label.
        value: The metric's promised value.
        source: Where the value comes from, in words.
    """

    metric: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFinding:
    """One batch compared with its promise.

    Attributes:
        level: BLOCK or WARN if the batch is worse by that declared threshold or more, else PASS.
        text: The finding as a sentence without a full stop.
        promise: The value that it was compared with; None if there is none yet.
        worse_by: How much worse it is, as a share of the promise; negative if better, None if unknown.
    """

    level: Level
    text: str
    promise: Promise | None = None
    worse_by: float | None = None


def promise_of(
    measured: MeasuredAccuracy,
    registry: RegistryTable,
    bucket: DataBucket,
    earlier: Iterable[MeasuredAccuracy],
) -> Promise | None:
    """Return the value that a batch is compared with; None if there is none yet.

    It is the first metric's value in the version's verdict. Without a verdict, it is the metric's median over
    the version's first `FIRST_BATCHES` batches in `earlier`.

    Args:
        measured: The batch's accuracy.
        registry: The registry.
        bucket: The data bucket, which holds the verdicts.
        earlier: The accuracy of earlier batches, in order of their partitions.
    """
    label = measured.metrics[0].name
    if (verdict_value := _verdict_value(measured, label, registry, bucket)) is not None:
        return Promise(label, verdict_value, f"the verdict on version {measured.version_number}")
    values = []
    for each in earlier:
        if each.batch_id == measured.batch_id or each.model_version != measured.model_version:
            continue
        values += [
            metric.value for metric in each.metrics if metric.name == label and metric.value is not None
        ]
        if len(values) >= FIRST_BATCHES:
            return Promise(label, median(values), f"the median of the model's first {FIRST_BATCHES} batches")
    return None


def _verdict_value(
    measured: MeasuredAccuracy, label: str, registry: RegistryTable, bucket: DataBucket
) -> float | None:
    if measured.version_number is None:
        return None
    version = registry.model_version(measured.model, measured.version_number)
    if version is None or version.verdict_key is None:
        return None
    try:
        verdict = Verdict.parse(bucket.read(version.verdict_key))
    except (ObjectMissingError, InvalidVerdictError):
        return None
    return next((metric.candidate for metric in verdict.metrics if metric.name == label), None)


def accuracy_finding(
    measured: MeasuredAccuracy, promise: Promise | None, thresholds: Accuracy
) -> AccuracyFinding:
    """Compare a batch with its model's promise.

    Args:
        measured: The batch's accuracy.
        promise: The value to compare it with; None if there is none yet.
        thresholds: The declared thresholds.
    """
    first = measured.metrics[0]
    if first.value is None:
        return AccuracyFinding(
            level=Level.PASS,
            text=f"{first.name} cannot be computed yet: {measured.known_rows} of {measured.rows} "
            "rows have an outcome",
            promise=promise,
        )
    if promise is None:
        return AccuracyFinding(
            level=Level.PASS,
            text=f"{first.name} is {first.value:g}. There is no promise to compare it with: the version has "
            f"no verdict and fewer than {FIRST_BATCHES} measured batches",
        )
    difference = first.value - promise.value
    worse_by = (difference if first.better == "lower" else -difference) / (abs(promise.value) or 1.0)
    level = Level.PASS
    for threshold, reached in ((thresholds.warn, Level.WARN), (thresholds.block, Level.BLOCK)):
        if threshold is not None and worse_by >= threshold:
            level = reached
    moved = f"{abs(worse_by):.1%} {'worse' if worse_by > 0 else 'better'} than" if worse_by else "the same as"
    return AccuracyFinding(
        level=level,
        text=f"{first.name} is {first.value:g}, {moved} the promised {promise.value:g} ({promise.source})",
        promise=promise,
        worse_by=worse_by,
    )


def decayed_accuracy(
    bucket: DataBucket,
    registry: RegistryTable,
    declaration: ModelDeclaration,
    model_version: str,
    *,
    least: Level,
) -> tuple[AccuracyFinding, ...]:
    """Return the bad findings on a version's last three measured batches; empty if fewer than two are bad.

    Batches of other versions do not count, so a new version starts without findings.

    Args:
        bucket: The data bucket.
        registry: The registry.
        declaration: The model's declaration.
        model_version: The version's digest.
        least: The lowest level that counts as bad.
    """
    model = declaration.name
    documents = AccuracyDocuments(bucket, model)
    newest: list[MeasuredAccuracy] = []
    examined: set[str] = set()
    for number, entry in enumerate(registry.newest_publications(model)):
        if number == _NEWEST_PUBLICATIONS or len(newest) == _EXAMINED_BATCHES:
            break
        if not (entry.makes_live and entry.batch_id and entry.partition) or entry.batch_id in examined:
            continue
        examined.add(entry.batch_id)
        measured = documents.find(entry.partition, entry.batch_id)
        if measured and measured.model_version == model_version and measured.metrics[0].value is not None:
            newest.append(measured)
    findings = [_finding(each, documents, registry, declaration.quality.accuracy) for each in newest]
    worse = tuple(finding for finding in findings if finding.level >= least)
    return worse if len(worse) >= _WORSE_BATCHES else ()


def _finding(
    measured: MeasuredAccuracy, documents: AccuracyDocuments, registry: RegistryTable, thresholds: Accuracy
) -> AccuracyFinding:
    earlier = documents.up_to(Partition(measured.partition))
    return accuracy_finding(measured, promise_of(measured, registry, documents.bucket, earlier), thresholds)
