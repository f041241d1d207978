"""Tests of a delivery from opening the batch to its manifest, on the local S3."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from prediction_batches.delivery.batch import open_batch
from prediction_batches.delivery.delta_commit import AttemptSupersededError
from prediction_batches.delivery.done_file import ManifestConflictError
from prediction_batches.delivery.receipts import ReceiptError
from prediction_batches.errors import PredictionsError, ShareConflictError, WriterEndedError
from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import InvalidNameError
from prediction_contract.manifests.manifest import InputObject, Inputs, Producer
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.schema import PredictionSchema
from tests.batches.delivery.stack_batches import BATCH, PARTITION, PROVENANCE, SCHEMA, StackBatches, rows_of
from tests.batches.encoded import table_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_batches.delivery.batch import Batch

pytestmark = pytest.mark.stack

OTHER = "20130202T060000Z-00000002"


def test_shares_of_several_writers_form_one_batch(batches: StackBatches) -> None:
    """The manifest lists all parts and files in share order, and states inputs, versions and producer."""
    batch = pickle.loads(pickle.dumps(batches.open()))
    batches.write(batch, "b", rows_of("k-3", "k-4"))
    batches.write(batch, "a", rows_of("k-1", "k-2"))
    features = InputObject("features/x", "0" * 64)
    provenance = replace(PROVENANCE, inputs=Inputs(features=(features,)), producer=Producer("job"))
    manifest = batch.commit(["a", "b"], provenance)
    assert [json.loads(line)["entity_id"] for line in batches.parts_of(manifest)] == [
        "k-1",
        "k-2",
        "k-3",
        "k-4",
    ]
    assert (manifest.row_count, manifest.delta.rows) == (4, 4)
    assert (manifest.model_version, manifest.code_version) == ("v-1", "c-1")
    assert (manifest.inputs.features, manifest.producer.job_name) == ((features,), "job")
    assert batches.stored() == {BATCH: ["k-1", "k-2", "k-3", "k-4"]}
    assert manifest.delta.files == (f"{BATCH}/1/a-00000.parquet", f"{BATCH}/1/b-00000.parquet")


def test_batch_is_invisible_before_commit(batches: StackBatches) -> None:
    """Before the commit, written shares are in no version of the Delta table and in no done file."""
    batch = batches.open()
    batches.write(batch, "a", rows_of("k-1"))
    assert batches.store.listing(f"predictions/{batches.model}/delta/_delta_log/") == []
    assert batches.store.find(f"done/2013-02-01/{batches.model}/{BATCH}.json") is None


def test_commit_with_incomplete_shares_is_refused(batches: StackBatches) -> None:
    """A commit with incomplete shares fails with their number and the first of them."""
    batch = batches.open()
    batches.write(batch, "a", rows_of("k-1"))
    with pytest.raises(RuntimeError), batch.writer("b") as writer:
        raise RuntimeError(writer)
    assert batch.receipt("b") is None
    with pytest.raises(ReceiptError, match="2 of 3 shares are incomplete; the first is b"):
        batch.commit(["a", "b", "c"], PROVENANCE)


def test_failed_writer_leaves_no_receipt(batches: StackBatches, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error a writer can neither write nor close, so no share is delivered with rows missing."""
    batch = batches.open()
    writer = batch.writer("a")
    writer.write(table_of(SCHEMA, rows_of("k-1")))
    with pytest.raises(PredictionsError, match="which is not a table"):
        writer.write("k-2")
    with pytest.raises(WriterEndedError, match="is closed or has failed"):
        writer.write(table_of(SCHEMA, rows_of("k-3")))
    with pytest.raises(WriterEndedError, match=r"Open a new writer and write the whole share again"):
        writer.close()
    with monkeypatch.context() as failing:
        # A put that still fails after all retries.
        failing.setattr(ObjectStore, "put_new", Mock(side_effect=ConnectionError))
        other = batch.writer("b")
        other.write(table_of(SCHEMA, rows_of("k-4")))
        with pytest.raises(ConnectionError):
            other.close()
    # The second close would not write the lost part again.
    with pytest.raises(WriterEndedError):
        other.close()
    third = batch.writer("c")
    with pytest.raises(RuntimeError), third:
        raise RuntimeError
    with pytest.raises(WriterEndedError):
        third.close()
    assert [batch.receipt(share) for share in "abc"] == [None] * 3


def test_closed_writer_refuses_rows(batches: StackBatches) -> None:
    """A closed writer refuses further rows, which its receipt would not include; closing twice is safe."""
    batch = batches.open()
    with batch.writer("a") as writer:
        writer.write(table_of(SCHEMA, rows_of("k-1")))
        receipt = writer.close()
        with pytest.raises(
            WriterEndedError, match=f"^{batches.model}/{BATCH}: The writer of share a is closed"
        ):
            writer.write(table_of(SCHEMA, rows_of("k-2")))
    assert writer.close() == batch.receipt("a") == receipt


def test_writes_and_commit_are_repeatable(batches: StackBatches) -> None:
    """Writing a share or committing again returns the same receipt and manifest and adds no objects."""
    batch = batches.open()
    first = [batches.write(batch, share, rows_of(f"k-{share}")) for share in ("a", "b")]
    assert [batches.write(batch, share, rows_of(f"k-{share}")) for share in ("a", "b")] == first
    manifest = batch.commit(["a", "b"], PROVENANCE)
    before = {entry.key for entry in batches.store.listing(f"predictions/{batches.model}/")}
    assert [batches.write(batch, share, rows_of(f"k-{share}")) for share in ("a", "b")] == first
    assert batch.commit(["a", "b"], PROVENANCE) == manifest
    assert {entry.key for entry in batches.store.listing(f"predictions/{batches.model}/")} == before


def test_share_is_not_overwritten_with_different_rows(batches: StackBatches) -> None:
    """Writing different rows to a written share fails and keeps its receipt and rows."""
    batch = batches.open()
    receipt = batches.write(batch, "a", rows_of("k-1"))
    for other in (rows_of("k-2"), rows_of("k-1", minutes=2), rows_of("k-1", "k-2"), []):
        with pytest.raises(ShareConflictError, match="Another writer of share a has written other rows"):
            batches.write(batch, "a", other)
    assert batch.receipt("a") == receipt
    assert batches.stored_lines(receipt) == 1


def test_later_attempt_replaces_earlier_one(batches: StackBatches) -> None:
    """The rows of the later attempt are kept, and a commit of the earlier one returns the later manifest."""
    early, late = batches.open(attempt=1), batches.open(attempt=2)
    batches.write(early, "a", rows_of("k-1"))
    batches.write(late, "a", rows_of("k-2"))
    manifest = late.commit(["a"], PROVENANCE)
    assert early.commit(["a"], PROVENANCE) == manifest
    assert batches.stored() == {BATCH: ["k-2"]}


def test_overtaken_attempt_without_manifest_is_refused(batches: StackBatches) -> None:
    """An earlier attempt cannot commit after a later one has, even while the later manifest is missing."""
    early, late = batches.open(attempt=1), batches.open(attempt=2)
    for batch, key in ((early, "k-1"), (late, "k-2")):
        batches.write(batch, "a", rows_of(key))
    manifest = late.commit(["a"], PROVENANCE)
    batches.store.client.delete_object(Bucket=batches.store.bucket, Key=manifest.key)
    with pytest.raises(AttemptSupersededError, match="Attempt 2 has already committed the batch"):
        early.commit(["a"], PROVENANCE)
    # A later attempt that was killed before its manifest can finish.
    again = late.commit(["a"], PROVENANCE)
    assert (again.delta, again.json_parts) == (manifest.delta, manifest.json_parts)


def test_done_file_of_another_partition_is_refused(batches: StackBatches) -> None:
    """A batch id that is already done for another partition cannot be committed."""
    batch = batches.open()
    batches.write(batch, "a", rows_of("k-1"))
    batch.commit(["a"], PROVENANCE)
    other = replace(batch, partition=type(batch.partition)("2013-02-02"))
    batches.write(other, "a", rows_of("k-1"))
    with pytest.raises(ManifestConflictError, match="done for partition 2013-02-01"):
        other.commit(["a"], PROVENANCE)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (
            lambda batch: replace(batch, schema=PredictionSchema(SCHEMA.columns[:2], SCHEMA.key)),
            "other columns",
        ),
        (lambda batch: replace(batch, has_unique_keys=True), "other columns or another batch"),
    ],
)
def test_receipt_with_different_columns_is_refused(
    batches: StackBatches, other: Callable[[Batch], Batch], what: str
) -> None:
    """A share that was written with another schema or other options is refused."""
    batch = batches.open()
    batches.write(batch, "a", rows_of("k-1"))
    with pytest.raises(ReceiptError, match=what):
        other(batch).receipt("a")


@pytest.mark.parametrize(("content", "what"), [(None, "is missing"), (b"cut", "has 3 bytes, but")])
def test_missing_or_altered_part_is_not_committed(
    batches: StackBatches, content: bytes | None, what: str
) -> None:
    """The commit fails, and leaves the Delta log empty, if a JSON part is missing or has another size."""
    batch = batches.open()
    (part,) = batches.write(batch, "a", rows_of("k-1")).parts
    if content is None:
        batches.store.client.delete_object(Bucket=batches.store.bucket, Key=part.key)
    else:
        batches.store.put(part.key, content)
    with pytest.raises(ReceiptError, match=f"JSON part {part.key} {what}"):
        batch.commit(["a"], PROVENANCE)
    assert batches.store.listing(f"predictions/{batches.model}/delta/_delta_log/") == []


@pytest.mark.parametrize(("member", "wrong"), [("rows", 3), ("parts", []), ("data_files", []), ("rows", inf)])
def test_contradictory_receipt_is_refused(batches: StackBatches, member: str, wrong: object) -> None:
    """A receipt whose counts and lists disagree is refused, since the batch could lack parts or files."""
    batch = batches.open()
    receipt = batches.write(batch, "a", rows_of("k-1", "k-2"))
    key = f"{receipt.parts[0].key.rpartition('/')[0]}/receipts/a.json"
    batches.store.put(key, json.dumps(json.loads(batches.store.get(key)) | {member: wrong}).encode())
    with pytest.raises(ReceiptError, match="A receipt cannot be read"):
        batch.receipt("a")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"share":"a"}', b"[" * 5000])
def test_malformed_receipt_is_refused(batches: StackBatches, content: bytes) -> None:
    """A receipt that is not valid JSON of the expected form is refused."""
    batch = batches.open()
    receipt = batches.write(batch, "a", rows_of("k-1"))
    batches.store.put(f"{receipt.parts[0].key.rpartition('/')[0]}/receipts/a.json", content)
    with pytest.raises(ReceiptError, match="A receipt cannot be read"):
        batch.receipt("a")


def test_refused_rows_are_counted_across_shares(batches: StackBatches) -> None:
    """The tolerance applies to the refused rows of all shares; above it nothing is committed."""
    batch = batches.open()
    batches.write(batch, "a", [*rows_of("k-1", "k-2"), {"entity_id": "", "minutes": 1}])
    batches.write(batch, "b", [*rows_of("k-3"), {"entity_id": "k-4", "share": float("nan")}])
    with pytest.raises(PredictionsError) as raised:
        batch.commit(["a", "b"], PROVENANCE)
    assert str(raised.value) == (
        f"{batches.model}/{BATCH}: 2 of 5 rows were refused, and 0 may be: 1 empty_key, 1 not_a_number; "
        "row 3 of share a: entity_id is empty; row 2 of share b: share: NaN is not a JSON number. "
        "Correct the program that makes the rows, or the columns or quality in the model's defs.yaml."
    )
    assert batches.store.listing(f"predictions/{batches.model}/delta/_delta_log/") == []
    assert batch.commit(["a", "b"], PROVENANCE, tolerance=QuarantineTolerance(rows=2)).row_count == 5


def test_duplicate_keys_across_shares_count_as_refused(batches: StackBatches) -> None:
    """Rows that share a key are refused across shares and named by share and number."""
    batch = batches.open()
    batches.write(batch, "a", rows_of("k-1", "k-2", "k-3"))
    # The key of a row that is refused for another reason is not a duplicate.
    batches.write(batch, "b", [*rows_of("k-4", "k-2"), {"entity_id": "k-1", "share": float("nan")}])
    batches.write(batch, "c", rows_of("k-5", "k-4", "k-2"))
    with pytest.raises(PredictionsError) as raised:
        batch.commit(["a", "b", "c"], PROVENANCE, tolerance=QuarantineTolerance(rows=5))
    assert "6 of 9 rows were refused, and 5 may be: 1 not_a_number, 5 duplicate_key; " in str(raised.value)
    places = ["row 2 of share a", "row 1 of share b", "row 2 of share b", "row 2 of share c"]
    assert all(f"{place}: another row has the same key" in str(raised.value) for place in places)
    assert batch.commit(["a", "b", "c"], PROVENANCE, tolerance=QuarantineTolerance(rows=6)).row_count == 9


def test_unique_keys_option_skips_key_digests(batches: StackBatches) -> None:
    """With has_unique_keys no key digests are written or compared, which saves a third of the time."""
    batch = batches.open(has_unique_keys=True)
    assert batches.write(batch, "a", rows_of("k-1")).keys is None
    batches.write(batch, "b", rows_of("k-1"))
    assert batch.commit(["a", "b"], PROVENANCE).row_count == 2


def test_empty_batch_is_refused(batches: StackBatches) -> None:
    """A batch without rows cannot be committed, but one of its shares may be empty."""
    batch = batches.open()
    batches.write(batch, "a", [])
    with pytest.raises(PredictionsError, match="The batch has no rows"):
        batch.commit(["a"], PROVENANCE)
    batches.write(batch, "b", rows_of("k-1"))
    assert batch.commit(["a", "b"], PROVENANCE).row_count == 1


def test_batch_id_is_generated_by_default() -> None:
    """Each opened batch gets a new id, and invalid names are refused at once."""
    given: dict[str, Any] = {"bucket": "bucket", "model": "tides", "partition": PARTITION, "schema": SCHEMA}
    assert open_batch(**given).batch_id != open_batch(**given).batch_id
    wrong_names: list[dict[str, Any]] = [
        {"model": "Tides"},
        {"partition": "2013"},
        {"batch_id": "x"},
        {"attempt": 0},
        {"bucket": "/"},
    ]
    for wrong in wrong_names:
        with pytest.raises(InvalidNameError):
            open_batch(**given | wrong)
    with pytest.raises(InvalidNameError, match="cannot name a share"):
        open_batch(**given).writer("../x")
