"""Tests of pinned models: chosen once per batch, and only among approved versions."""

from __future__ import annotations

from typing import Any

import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs, TrainedElsewhere
from prediction_contract.jobs.pinned_model import InvalidPinError, PinnedModel
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import pinned_model_key
from prediction_contract.registry.version_records import ChampionPointer, champion_key
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.learning.registered_models import ModelVersionError
from sagemaker_scripts.scoring.pinning import pinned_model
from tests.fakes.memory_s3 import MemoryS3
from tests.fakes.registry_table import FakeRegistryTable
from tests.sagemaker.registered_versions import register, stored

MODEL, DAY, BATCH = "m", "2013-02-01", "20130201T060000Z-00000001"
KEY = pinned_model_key(MODEL, DAY, BATCH)
INPUTS = ModelInputs(model=MODEL, functions="acme.defs.m")
ELSEWHERE = TrainedElsewhere(key="acme/m.onnx", sha256="e" * 64, codec="onnx", bucket="acme-models")


def archive(number: int) -> PinnedModel:
    """Return a pinned model that names the archive of a version."""
    key = f"models/{MODEL}/candidates/{number}/output/model.tar.gz"
    return PinnedModel(digest=f"{number:016x}", key=key, sha256=f"{number:064x}")


def pinned(
    store: ObjectStore,
    registry: FakeRegistryTable,
    *,
    inputs: ModelInputs = INPUTS,
    attempt: int = 1,
    **given: Any,
) -> PinnedModel:
    """Return the model that is pinned for the batch."""
    arguments = ScoreArguments(
        model=MODEL,
        partition=DAY,
        bucket=store.bucket,
        lookback=0,
        schema_key="code/m.json",
        registry_table="registry",
        code_version="v",
        inputs_key="code/inputs.json",
        **given,
    )
    return pinned_model(
        arguments, BatchAttempt(Partition(DAY), BATCH, attempt, None), store, inputs, registry
    )


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def test_concurrent_hosts_use_the_first_pin(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that choose at once use the first choice, although a promotion came between them."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, champion=True)
    find, chosen = ObjectStore.find, []

    def find_late(bucket: ObjectStore, key: str, **given: Any) -> bytes | None:
        found = find(bucket, key, **given)
        monkeypatch.setattr(ObjectStore, "find", find)
        chosen.append(pinned(store, registry))
        register(registry, MODEL, archive(2), version=2, champion=True)
        return found

    monkeypatch.setattr(ObjectStore, "find", find_late)
    assert pinned(store, registry) == chosen[0] == PinnedModel.parse(store.get(KEY))
    assert chosen[0].version == 1


def test_declared_file_is_pinned_without_registry(store: ObjectStore) -> None:
    """A declared file needs no registry, and correcting it between attempts affects only the next batch."""
    registry = FakeRegistryTable()
    inputs = ModelInputs(model=MODEL, functions="acme.defs.m", trained_elsewhere=ELSEWHERE)
    first = pinned(store, registry, inputs=inputs)
    assert (first.key, first.bucket, first.codec) == ("acme/m.onnx", "acme-models", "onnx")
    assert (first.sha256, first.digest, first.version) == ("e" * 64, "e" * 16, None)
    other = TrainedElsewhere(key="acme/m.onnx", sha256="f" * 64, codec="onnx")
    inputs = ModelInputs(model=MODEL, functions="acme.defs.m", trained_elsewhere=other)
    assert pinned(store, registry, inputs=inputs, attempt=2) == first


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "Version 3 is not registered"),
        ("candidate", "Version 3 was never approved"),
        ("refused", "Version 3 was refused"),
        ("retired", "Version 3 was retired, and its artifact is deleted"),
    ],
)
def test_unapproved_version_is_refused_and_not_pinned(
    store: ObjectStore, state: str | None, why: str
) -> None:
    """A requested version that was never approved or was retired is refused, and nothing is pinned."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, champion=True)
    if state is not None:
        register(registry, MODEL, archive(3), version=3, state=state)
    with pytest.raises(ModelVersionError, match=rf"^m: {why}\. Name an approved version: `mlpipe models m`"):
        pinned(store, registry, version=3)
    assert KEY not in store.client.objects
    assert pinned(store, registry).version == 1


@pytest.mark.parametrize("state", ["approved", "superseded", "withdrawn"])
def test_version_approved_once_can_be_requested(store: ObjectStore, state: str) -> None:
    """A version that was approved once can score a batch, even if it was superseded or withdrawn."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(3), version=3, state=state)
    assert pinned(store, registry, version=3).version == 3


def test_model_without_promoted_version_scores_nothing(store: ObjectStore) -> None:
    """An approved version that was not promoted is not used, and the error suggests a promotion."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, state="approved")
    with pytest.raises(ModelVersionError, match=r"none was promoted yet\. Promote .* `mlpipe retrain m`"):
        pinned(store, registry)
    assert not store.client.objects


def test_model_with_demoted_champion_scores_nothing(store: ObjectStore) -> None:
    """After a demotion without a successor, scoring fails instead of using the withdrawn version."""
    registry, key = FakeRegistryTable(), champion_key(MODEL)
    pointer = ChampionPointer(model=MODEL, sequence=2, withdrawn_before="2013-02-01T00:00:00Z")
    registry.records[key] = key.attributes() | stored(pointer)
    with pytest.raises(ModelVersionError, match=r"the last one was demoted. Promote .* `mlpipe retrain m`"):
        pinned(store, registry)
    assert not store.client.objects


def test_batch_keeps_version_that_is_demoted_meanwhile(store: ObjectStore) -> None:
    """Later attempts use the version of the first one after its demotion; the next batch does not."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, state="superseded")
    register(registry, MODEL, archive(2), version=2, champion=True)
    assert pinned(store, registry).version == 2
    register(registry, MODEL, archive(2), version=2, state="withdrawn")
    register(registry, MODEL, archive(1), version=1, champion=True)
    assert pinned(store, registry, attempt=2).version == 2
    del store.client.objects[KEY]
    assert pinned(store, registry).version == 1


@pytest.mark.parametrize("state", ["candidate", "refused", "withdrawn"])
def test_pointer_contradicting_version_state_is_refused(store: ObjectStore, state: str) -> None:
    """A champion pointer to a version in another state is refused with advice to run `mlpipe doctor`."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, champion=True)
    register(registry, MODEL, archive(1), version=1, state=state)
    with pytest.raises(
        ModelVersionError, match=rf"names version 1, but its record says {state}. Run `mlpipe doc"
    ):
        pinned(store, registry)


def test_promotion_between_two_reads_is_followed(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a promotion happens between reading pointer and record, the new champion is pinned."""
    registry = FakeRegistryTable()
    register(registry, MODEL, archive(1), version=1, champion=True)
    champion = FakeRegistryTable.champion

    def promoted_since(table: FakeRegistryTable, model: str) -> ChampionPointer | None:
        pointer = champion(table, model)
        register(registry, MODEL, archive(1), version=1, state="superseded")
        register(registry, MODEL, archive(2), version=2, champion=True)
        return pointer

    monkeypatch.setattr(FakeRegistryTable, "champion", promoted_since)
    assert pinned(store, registry).version == 2


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"digest":"1"}', archive(1).to_bytes()[:-1] + b',"x":1}']
)
def test_malformed_pin_is_refused(store: ObjectStore, content: bytes) -> None:
    """A pin that cannot be read is refused with advice to score a new batch."""
    store.put(KEY, content)
    with pytest.raises(InvalidPinError, match=r"cannot be read.*Score the partition as a new batch"):
        pinned(store, FakeRegistryTable())
