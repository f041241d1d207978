"""Tests of the registry table on DynamoDB: it applies changes and names violated conditions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from prediction_contract.errors import RegistryUnavailableError, RuleViolationError
from prediction_contract.registry import load_rules, manifest_rules, publication_rules, version_rules
from prediction_contract.registry.records import BatchRecord, ChangeRequest, LivePointers
from prediction_contract.registry.stored_record import UnreadableRecordError
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import ModelVersion
from tests.fakes.foreign_documents import PYTHON
from tests.fakes.prediction_stores import FIRST, HOME, MODEL, START, World

pytestmark = pytest.mark.stack


@pytest.fixture
def registry(registry_on_dynamodb: tuple[Any, str]) -> RegistryTable:
    """A registry in an empty DynamoDB table."""
    return RegistryTable(*registry_on_dynamodb)


def hold(registry: RegistryTable, request_id: str, *, held: bool) -> bool:
    """Hold or release publication."""
    request = ChangeRequest(request_id=request_id, actor="ada", reason="incident")
    return registry.carry_out(
        lambda: publication_rules.hold(
            registry.live_pointers(MODEL, home_region=HOME), request, model=MODEL, held=held, now=START
        )
    )


def test_registered_batch_is_read_back(registry: RegistryTable) -> None:
    """A registered batch is read back and listed, and registering it again changes nothing."""
    facts = World().facts(FIRST, "digest-0")

    def register() -> Transaction:
        return manifest_rules.register_batch(facts, registry.batch(MODEL, FIRST))

    assert registry.carry_out(register)
    assert not registry.carry_out(register)
    batch = registry.batch(MODEL, FIRST)
    assert batch is not None
    assert (batch.load_state, batch.row_count, batch.manifest_digest) == ("done", 3, "digest-0")
    assert list(registry.batches(MODEL)) == [batch]


def test_refused_change_names_condition_and_batch(registry: RegistryTable) -> None:
    """A transaction that DynamoDB cancels raises the error of the rule, with the batch's name."""
    facts = World().facts(FIRST, "digest-0")
    registry.carry_out(lambda: manifest_rules.register_batch(facts, None))
    batch = registry.batch(MODEL, FIRST)
    assert batch is not None
    with pytest.raises(
        RuleViolationError, match=f"{MODEL}/{FIRST}: Another load has replaced the claim"
    ) as refusal:
        registry.carry_out(lambda: load_rules.confirm_claim(batch, token="stolen", job_run_id="jr_1"))
    assert refusal.value.condition == "claim_is_ours"


def test_repeated_request_is_applied_once(registry: RegistryTable) -> None:
    """A request id is applied only once, even if it is repeated after a later request."""
    assert hold(registry, "request-1", held=True)
    assert hold(registry, "request-2", held=False)
    assert not hold(registry, "request-1", held=True)
    pointer = registry.pointer(MODEL, HOME)
    assert pointer is not None
    assert (pointer.hold, pointer.sequence) == (False, 2)
    assert [entry.request_id for entry in registry.publications(MODEL)] == ["request-1", "request-2"]
    assert [entry.sequence for entry in registry.publications(MODEL, after=1)] == [2]
    entry = registry.publication(MODEL, 1)
    assert entry is not None
    assert entry.reason == "incident"


def test_concurrent_requests_are_all_applied(registry: RegistryTable) -> None:
    """Concurrent requests are decided again on the new pointer until each one is applied."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: hold(registry, f"request-{number}", held=True), range(8)))
    assert all(done)
    assert [entry.sequence for entry in registry.publications(MODEL)] == list(range(1, 9))


def test_conflicting_change_stops_at_its_deadline(registry_on_dynamodb: tuple[Any, str]) -> None:
    """A change that always conflicts stops at its deadline, and the error says that repeating is safe."""
    client, name = registry_on_dynamodb
    registry = RegistryTable(client, name, patience_seconds=0.5)
    hold(registry, "request-1", held=True)
    stale = LivePointers(home_region=HOME, home=None)
    request = ChangeRequest(request_id="request-2", actor="ada")
    with pytest.raises(RegistryUnavailableError, match="which is safe"):
        registry.carry_out(lambda: publication_rules.hold(stale, request, model=MODEL, held=False, now=START))


class ConflictedClient:
    """A client whose first reads of several records, `conflicts` times, conflict with a write."""

    def __init__(self, client: Any, conflicts: int) -> None:
        self._client, self._left = client, conflicts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_get_items(self, **request: Any) -> Any:
        """Answer like DynamoDB during a transaction on one of the items."""
        if self._left:
            self._left -= 1
            reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
            raise self._client.exceptions.TransactionCanceledException(
                {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons},
                "TransactGetItems",
            )
        return self._client.transact_get_items(**request)


def test_read_during_a_write_is_retried(registry_on_dynamodb: tuple[Any, str]) -> None:
    """A read that conflicts with a write is retried, but only until its deadline."""
    client, name = registry_on_dynamodb
    registry = RegistryTable(ConflictedClient(client, 3), name)
    assert registry.live_pointers(MODEL, home_region=HOME).home is None
    stuck = RegistryTable(ConflictedClient(client, 1000), name, patience_seconds=0.5)
    with pytest.raises(RegistryUnavailableError, match="which is safe"):
        stuck.live_pointers(MODEL, home_region=HOME)


def test_live_pointers_include_unserved_regions(registry: RegistryTable) -> None:
    """A region that has never served a batch is listed without a pointer."""
    hold(registry, "request-1", held=True)
    live_pointers = registry.live_pointers(MODEL, home_region=HOME, regions=["eu-west-1"])
    assert live_pointers.home is not None
    assert live_pointers.regions == {"eu-west-1": None}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({}, "model is missing"),
        ({"model": {"S": "m"}, "batch_id": {"S": "b"}, "row_count": {"S": "x"}}, "m/b: .*row_count"),
        ({"model": {"S": "m"}, "batch_id": {"S": "b"}, "row_count": {"N": "1.5"}}, "not an integer"),
        ({"model": {"S": "m"}, "batch_id": {"N": "7"}}, "batch_id has the wrong type"),
    ],
)
def test_malformed_records_are_reported_plainly(item: dict[str, Any], words: str) -> None:
    """The error of a malformed record names the wrong member and contains no Python terms."""
    with pytest.raises(UnreadableRecordError, match=words) as caught:
        BatchRecord.from_item(item)
    assert isinstance(caught.value, ValueError)
    assert not PYTHON.search(str(caught.value))


def test_concurrent_demotions_withdraw_one_champion(registry: RegistryTable) -> None:
    """Repeated promotions change nothing, and concurrent demotions withdraw only one champion."""
    for number in (1, 2, 3):
        found = ModelVersion(
            model=MODEL,
            version=number,
            state="candidate",
            digest=f"{number:016x}",
            artifact_key=f"models/{MODEL}/candidates/{number}/output/model.tar.gz",
            artifact_sha256="0" * 64,
            package_arn=f"arn:aws:sagemaker:us-east-1:111111111111:model-package/group/{number}",
            approval="Approved",
            created_at="2013-02-01T00:00:00Z",
        )

        def record(found: ModelVersion = found) -> Transaction:
            return version_rules.record_version(registry.model_version(MODEL, found.version), found)

        def promote(number: int = number) -> Transaction:
            version = registry.model_version(MODEL, number)
            assert version is not None
            request = ChangeRequest(request_id=f"promote-{number}", actor="ada")
            return version_rules.promote(version, registry.champion(MODEL), request, now=START)

        assert registry.carry_out(record)
        assert not registry.carry_out(record)
        assert registry.carry_out(promote)
        assert not registry.carry_out(promote)
    target = registry.demotion_target(MODEL)
    assert target is not None
    assert target.version == 2

    def demote(request_id: str) -> str:
        def decide() -> Transaction:
            version, pointer = registry.model_version(MODEL, 2), registry.champion(MODEL)
            assert pointer is not None
            return version_rules.demote(
                version, pointer, ChangeRequest(request_id=request_id, actor="ada"), now=START
            )

        try:
            return "demoted" if registry.carry_out(decide) else "known"
        except RuleViolationError as refusal:
            return refusal.condition

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(demote, ["a", "a", "b", "c"]))
    assert outcomes.count("demoted") == 1
    assert set(outcomes) <= {"demoted", "known", "version_may_score"}
    pointer = registry.champion(MODEL)
    assert pointer is not None
    assert (pointer.version, pointer.previous_version, pointer.sequence) == (2, 3, 4)
    assert [version.state for version in registry.model_versions(MODEL)] == [
        "withdrawn",
        "champion",
        "superseded",
    ]
    assert [entry.sequence for entry in registry.promotions(MODEL)] == [4, 3, 2, 1]
    target = registry.demotion_target(MODEL)
    assert target is not None
    assert target.version == 1
