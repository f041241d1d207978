"""Tests of the accuracy of published batches, measured on later outcomes as a whole and by slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.jobs.metrics import METRIC_KINDS, Metric
from prediction_contract.jobs.model_inputs import Judging, ModelInputs
from prediction_contract.manifests.manifest_records import ModelPackage
from prediction_contract.manifests.measured_accuracy import (
    InvalidAccuracyError,
    MeasuredAccuracy,
    MeasuredSlice,
)
from prediction_contract.naming.s3_layout import accuracy_key
from prediction_contract.registry.records import BatchRecord
from sagemaker_scripts.accuracy import measuring
from sagemaker_scripts.accuracy.measuring import MeasuringError
from sagemaker_scripts.accuracy.metric_tallies import MetricTally
from sagemaker_scripts.features.feature_store import FeatureFolder, PreparedPartition
from sagemaker_scripts.learning.metric_values import EvaluationError, metric_value
from sagemaker_scripts.measure_accuracy import measure
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import schema_of, write_batch

MODEL, DAY, BATCH = "churn", "2013-02-01", "20130201T060000Z-0123abcd"
SCHEMA = schema_of(
    {"customer": "string", "region": "string", "spending": "double", "risk": "double"}, key="customer"
)
MAE, AUC = Metric("mae", "spending", "spent"), Metric("roc_auc", "risk", "left")


class Measured:
    """A bucket with one batch of a model and its later outcomes.

    Attributes:
        store: The bucket.
        inputs: The model's inputs.
    """

    def __init__(self) -> None:
        self.store = ObjectStore(MemoryS3(), "mlpipe-data")
        self.inputs = ModelInputs(
            model=MODEL,
            functions="acme",
            outcomes=True,
            metrics=(MAE, AUC),
            judging=Judging(slices=("region",)),
        )

    def write(self, rows: Sequence[dict[str, Any]], *, shares: int = 1) -> None:
        """Write the batch."""
        manifest = write_batch(
            self.store, SCHEMA, rows, model=MODEL, partition=DAY, batch_id=BATCH, shares=shares
        )
        package = ModelPackage(arn="arn", version=7, digest="v", approved_by="ada")
        self.store.put(manifest.key, replace(manifest, model_package=package).to_bytes())

    def tell(self, day: str, outcomes: Sequence[tuple[str, str, float | None, bool | None]]) -> None:
        """Prepare the features of a later day with outcomes of earlier days."""
        columns = list(zip(*outcomes, strict=True)) or [(), (), (), ()]
        names = ("partition", "entity_id", "spent", "left")
        types = (pa.string(), pa.string(), pa.float64(), pa.bool_())
        table = pa.table(
            {name: pa.array(list(each), kind) for name, each, kind in zip(names, columns, types, strict=True)}
        )
        features = pa.table({"entity_id": ["x"]})
        FeatureFolder(self.store, MODEL, day, "run", "c").write_all(PreparedPartition(features, table))

    def measure(self, record: BatchRecord | None = None) -> MeasuredAccuracy:
        """Measure the batch, and return the accuracy that was written."""
        key, content = self.inputs.to_document()
        self.store.put(key, content)
        arguments = AccuracyArguments(
            model=MODEL,
            bucket=self.store.bucket,
            batch_id=BATCH,
            registry_table="registry",
            inputs_key=key,
            code_version="c2",
        )
        known = record or BatchRecord(model=MODEL, batch_id=BATCH)
        found = measure(arguments, self.store, lambda _model, _batch_id: known)
        assert MeasuredAccuracy.parse(self.store.get(accuracy_key(MODEL, DAY, BATCH))) == found
        return found


@pytest.fixture
def model() -> Measured:
    """Give a model without a batch."""
    return Measured()


def rows(count: int) -> list[dict[str, Any]]:
    """Return predictions of 10 for everybody, with increasing risk."""
    return [
        {
            "customer": f"c{number}",
            "region": "north" if number % 3 else "south",
            "spending": 10.0,
            "risk": number / count,
        }
        for number in range(count)
    ]


def test_batch_is_measured_as_a_whole_and_by_slices(model: Measured) -> None:
    """The document holds version, counts, each metric, and the deciding metric of each slice."""
    model.write(rows(900), shares=3)
    model.tell(
        "2013-02-02",
        [(DAY, f"c{number}", 12.0 if number % 3 else 15.0, number >= 450) for number in range(900)],
    )
    measured = model.measure()
    assert (measured.partition, measured.model_version, measured.version_number) == (DAY, "v", 7)
    assert (measured.rows, measured.known_rows, measured.known_at) == (900, 900, "2013-02-02")
    assert [(each.name, each.better, each.rows, each.value) for each in measured.metrics] == [
        ("mae:spending", "lower", 900, 3.0),
        ("roc_auc:risk", "higher", 900, 1.0),
    ]
    assert measured.slices == (
        MeasuredSlice(column="region", value="north", rows=600, metric=2.0),
        MeasuredSlice(column="region", value="south", rows=300, metric=5.0),
    )


def test_only_rows_with_prediction_and_outcome_are_measured(model: Measured) -> None:
    """Missing outcomes or predictions, unknown entities and other days do not count."""
    batch = rows(4)
    batch[3]["spending"] = None
    model.write(batch)
    model.tell(
        "2013-02-02",
        [
            (DAY, "c0", 11.0, False),
            (DAY, "c1", None, True),
            (DAY, "c3", 99.0, None),
            (DAY, "unknown", 99.0, True),
            ("2013-01-31", "c2", 99.0, True),
        ],
    )
    measured = model.measure()
    assert (measured.rows, measured.known_rows) == (4, 3)
    assert [(each.rows, each.value) for each in measured.metrics] == [(1, 1.0), (2, 1.0)]
    assert measured.slices == ()


def test_latest_outcomes_are_used(model: Measured) -> None:
    """A later day corrects and adds outcomes; days that were not prepared are skipped."""
    model.write(rows(2))
    model.tell("2013-02-02", [(DAY, "c0", 11.0, True)])
    assert model.measure().metrics[0].value == 1.0
    model.tell("2013-02-05", [(DAY, "c0", 14.0, False), (DAY, "c1", 12.0, True)])
    measured = model.measure()
    assert (measured.known_at, measured.metrics[0].rows, measured.metrics[0].value) == ("2013-02-05", 2, 3.0)


def test_metrics_are_null_without_outcomes(model: Measured) -> None:
    """Without a later day measuring fails; with a day without outcomes the metrics are null."""
    model.write(rows(2))
    with pytest.raises(MeasuringError, match=r"Prepare the features of 2013-02-02"):
        model.measure()
    model.tell("2013-02-02", [])
    measured = model.measure()
    assert (measured.known_rows, measured.metrics[0].value, measured.metrics[1].value) == (0, None, None)


def test_undefined_metric_is_null(model: Measured) -> None:
    """If all outcomes are the same, ROC AUC is null and the other metrics are measured."""
    model.write(rows(3))
    model.tell("2013-02-02", [(DAY, f"c{number}", 11.0, True) for number in range(3)])
    assert [each.value for each in model.measure().metrics] == [1.0, None]


def test_accuracy_is_the_same_when_divided_on_disk(model: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy does not depend on how many buckets bound the memory."""
    batch = rows(3000)
    model.write(batch, shares=2)
    spent = np.random.default_rng(1).uniform(0, 20, 3000).round(2)
    model.tell("2013-02-02", [(DAY, f"c{number}", spent[number], number % 7 == 0) for number in range(3000)])
    whole = model.measure()
    monkeypatch.setattr(measuring, "_CHUNK_ROWS", 500)
    divided = model.measure()
    assert divided == whole
    assert divided == model.measure()
    assert [each.rows for each in divided.metrics] == [3000, 3000]


def test_column_with_too_many_values_is_not_sliced(model: Measured) -> None:
    """A slice column with a different value per entity is listed as left out."""
    batch = rows(1500)
    for number, row in enumerate(batch):
        row["region"] = f"street {number}"
    model.write(batch)
    model.tell("2013-02-02", [(DAY, f"c{number}", 12.0, False) for number in range(1500)])
    measured = model.measure()
    assert (measured.slices, measured.slices_left_out) == ((), ("region",))


def test_metric_of_a_missing_column_is_refused(model: Measured) -> None:
    """A metric of a column that the batch lacks, or a model without metrics, is refused."""
    model.write(rows(3))
    model.tell("2013-02-02", [(DAY, "c0", 11.0, True)])
    model.inputs = replace(model.inputs, metrics=(Metric("mae", "spending", "paid"),))
    with pytest.raises(MeasuringError, match="nor its outcomes have column paid"):
        model.measure()
    model.inputs = replace(model.inputs, metrics=())
    with pytest.raises(MeasuringError, match="declares no metrics"):
        model.measure()


def test_batch_that_is_not_done_is_refused(model: Measured) -> None:
    """A batch without a done file cannot be measured."""
    with pytest.raises(MeasuringError, match="not done"):
        model.measure()


def spread(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Return the range of errors, as a project's own metric."""
    return float(np.ptp(actual - predicted))


@pytest.mark.parametrize("kind", METRIC_KINDS)
def test_metric_of_pieces_equals_metric_of_the_whole(kind: str) -> None:
    """Every kind of metric can be computed piece by piece, whether it is summed or needs all rows."""
    random = np.random.default_rng(3)
    two = kind in {"roc_auc", "log_loss"}
    actual = random.integers(0, 2, 100).astype("float64") if two else random.uniform(1, 9, 100)
    predicted = random.uniform(0.1, 0.9, 100)
    metric = Metric(
        kind,
        "p",
        "a",
        quantile=0.9 if kind == "pinball" else None,
        function=f"{__name__}:spread" if kind == "function" else None,
        better="lower" if kind == "function" else None,
    )
    tally = MetricTally(metric)
    for piece in (slice(0, 40), slice(40, 40), slice(40, 100)):
        tally.add(actual[piece], predicted[piece])
    whole = metric_value(metric, actual, predicted, actual)
    assert (tally.rows, tally.value()) == (100, pytest.approx(whole.value, rel=1e-3))


def test_invalid_values_are_refused_in_any_piece() -> None:
    """A value that is no probability is refused, also in a later piece."""
    tally = MetricTally(Metric("log_loss", "p", "a"))
    tally.add(np.array([1.0]), np.array([0.5]))
    with pytest.raises(EvaluationError, match="not a probability"):
        tally.add(np.array([1.0]), np.array([1.5]))


def test_malformed_accuracy_document_is_refused() -> None:
    """A document that cannot be read is refused with advice to materialize the accuracy."""
    with pytest.raises(InvalidAccuracyError, match="Materialize the accuracy"):
        MeasuredAccuracy.parse(b"[]")
