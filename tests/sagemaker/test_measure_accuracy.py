"""The accuracy of published batches: joined with later outcomes, measured as a whole and by slices."""

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
    """A bucket with a batch of a model, and what becomes known of it.

    Attributes:
        store: The bucket.
        inputs: The model's.
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
        """Prepare a later day, whose features tell the outcomes of earlier ones."""
        columns = list(zip(*outcomes, strict=True)) or [(), (), (), ()]
        names = ("partition", "entity_id", "spent", "left")
        types = (pa.string(), pa.string(), pa.float64(), pa.bool_())
        told = pa.table(
            {name: pa.array(list(each), kind) for name, each, kind in zip(names, columns, types, strict=True)}
        )
        features = pa.table({"entity_id": ["x"]})
        FeatureFolder(self.store, MODEL, day, "run", "c").write_all(PreparedPartition(features, told))

    def measure(self, record: BatchRecord | None = None) -> MeasuredAccuracy:
        """Measure the batch, and return what the document says."""
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
    """A model without a batch."""
    return Measured()


def rows(count: int) -> list[dict[str, Any]]:
    """Return predictions: 10 for everybody, and a risk that grows."""
    return [
        {
            "customer": f"c{number}",
            "region": "north" if number % 3 else "south",
            "spending": 10.0,
            "risk": number / count,
        }
        for number in range(count)
    ]


def test_a_batch_is_measured_as_a_whole_and_by_slices(model: Measured) -> None:
    """Everybody in the north spent 12, in the south 15; who has more than half the risk has left."""
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


def test_only_what_is_known_is_measured(model: Measured) -> None:
    """No outcome, a missing one, a missing prediction, another day's: none of them counts."""
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


def test_what_is_known_last_counts(model: Measured) -> None:
    """A later day corrects an outcome and adds another; a day that is not prepared is passed over."""
    model.write(rows(2))
    model.tell("2013-02-02", [(DAY, "c0", 11.0, True)])
    assert model.measure().metrics[0].value == 1.0
    model.tell("2013-02-05", [(DAY, "c0", 14.0, False), (DAY, "c1", 12.0, True)])
    measured = model.measure()
    assert (measured.known_at, measured.metrics[0].rows, measured.metrics[0].value) == ("2013-02-05", 2, 3.0)


def test_days_that_tell_nothing_give_no_figure(model: Measured) -> None:
    """The document says so; the next one that is prepared may tell more."""
    model.write(rows(2))
    with pytest.raises(MeasuringError, match=r"Prepare the features of 2013-02-02"):
        model.measure()
    model.tell("2013-02-02", [])
    measured = model.measure()
    assert (measured.known_rows, measured.metrics[0].value, measured.metrics[1].value) == (0, None, None)


def test_outcomes_of_one_kind_say_nothing_of_two_kinds(model: Measured) -> None:
    """The other metrics are measured all the same."""
    model.write(rows(3))
    model.tell("2013-02-02", [(DAY, f"c{number}", 11.0, True) for number in range(3)])
    assert [each.value for each in model.measure().metrics] == [1.0, None]


def test_a_batch_divided_on_disk_has_the_same_accuracy(
    model: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many buckets: memory is bounded by one of them."""
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


def test_a_column_that_tells_entities_apart_is_no_slice(model: Measured) -> None:
    """It is named, and the other columns are sliced all the same."""
    batch = rows(1500)
    for number, row in enumerate(batch):
        row["region"] = f"street {number}"
    model.write(batch)
    model.tell("2013-02-02", [(DAY, f"c{number}", 12.0, False) for number in range(1500)])
    measured = model.measure()
    assert (measured.slices, measured.slices_left_out) == ((), ("region",))


def test_a_metric_of_another_column_is_refused(model: Measured) -> None:
    """A batch of an earlier schema has no such column."""
    model.write(rows(3))
    model.tell("2013-02-02", [(DAY, "c0", 11.0, True)])
    model.inputs = replace(model.inputs, metrics=(Metric("mae", "spending", "paid"),))
    with pytest.raises(MeasuringError, match="nor its outcomes have column paid"):
        model.measure()
    model.inputs = replace(model.inputs, metrics=())
    with pytest.raises(MeasuringError, match="declares no metrics"):
        model.measure()


def test_a_batch_that_is_not_done_is_refused(model: Measured) -> None:
    """There is nothing to measure."""
    with pytest.raises(MeasuringError, match="not done"):
        model.measure()


def spread(actual: np.ndarray, predicted: np.ndarray) -> float:
    """A metric of a project's own."""
    return float(np.ptp(actual - predicted))


@pytest.mark.parametrize("kind", METRIC_KINDS)
def test_pieces_give_the_metric_of_the_whole(kind: str) -> None:
    """Whether it is summed or held."""
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


def test_values_that_a_metric_is_not_of_are_refused() -> None:
    """In whichever piece they come."""
    tally = MetricTally(Metric("log_loss", "p", "a"))
    tally.add(np.array([1.0]), np.array([0.5]))
    with pytest.raises(EvaluationError, match="not a probability"):
        tally.add(np.array([1.0]), np.array([1.5]))


def test_a_document_of_another_form_is_told() -> None:
    """Somebody wrote it by hand."""
    with pytest.raises(InvalidAccuracyError, match="Materialize the accuracy"):
        MeasuredAccuracy.parse(b"[]")
