"""Readers in a region whose replica applies home's writes in any order.

One transaction at home writes pointer, publication and batch records. They reach a region one by one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api_lambda.application import Application, services_of
from api_lambda.settings import Settings
from api_lambda.store.online_store import OnlineStore
from api_lambda.store.publications import Publications
from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry import load_rules, publication_rules
from prediction_contract.registry.records import (
    ChangeRequest,
    LivePointers,
    LoadState,
    PublicationEntry,
    ReleaseState,
    batch_key,
    pointer_key,
    publication_key,
)
from prediction_contract.registry.stored_record import encode_value
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.text.utc_time import format_utc
from tests.api.api_calls import ApiUnderTest, environment
from tests.api.published_batches import SCHEMA
from tests.fakes.registry_table import FakeRegistryTable
from tests.fakes.replica import FakeReplica

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.registry.transaction import Transaction
    from tests.api.api_calls import Answered
    from tests.fakes.token_issuer import TokenIssuer

MODEL, PARTITION = "flights", "2013-02-01"
HOME, REGION = "us-east-1", "eu-central-1"
DEPLOYMENT = Deployment("local", "000000000000", REGION, HOME)
REGISTRY, ONLINE = DEPLOYMENT.registry_table, DEPLOYMENT.online_table(MODEL)
ENTITIES = ["a", "b"]
POINTER = pointer_key(MODEL, REGION).record
LIFE = timedelta(days=30)
ACTS = ("publish", "follow", "publish", "follow", "roll_back", "publish_again", "hold")
BEGINNING = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Home:
    """The home region: it acts by the registry's rules, and its writes wait for the replica.

    Attributes:
        registry: The registry at home.
        replica: The tables in the serving region.
        batches: All batches in the order of publication.
        entities: The entities of each batch.
        live: The live batch before the first act and after each one.
        withdrawn: All batches that were ever withdrawn.
    """

    registry: FakeRegistryTable = field(default_factory=FakeRegistryTable)
    replica: FakeReplica = field(default_factory=lambda: FakeReplica((REGISTRY, ONLINE)))
    batches: list[str] = field(default_factory=list)
    entities: list[str] = field(default_factory=lambda: [*ENTITIES])
    live: list[str | None] = field(default_factory=lambda: [None])
    withdrawn: set[str] = field(default_factory=set)
    now: datetime = BEGINNING

    def publish(self) -> None:
        """Load a batch whose rows all hold its number, verify it and make it live."""
        number = len(self.batches) + 1
        batch_id = mint_batch_id(MODEL, PARTITION, str(number), self.now)
        self.batches.append(batch_id)
        for entity in self.entities:
            row = row_contract(SCHEMA).accept(f'{{"flight":"{entity}","serial":{number}}}'.encode())
            item = OnlineItems(SCHEMA).build(row, batch_id, int((self.now + LIFE).timestamp()))
            self.replica.send((ONLINE, entity, batch_id), item)
        key = batch_key(MODEL, batch_id)
        self.registry.records[key] = key.attributes() | {
            "batch_id": batch_id,
            "partition": PARTITION,
            "load_state": LoadState.VERIFIED,
            "release_state": ReleaseState.UNPUBLISHED,
            "verified_attempt": 1,
            "items_expire_at": format_utc(self.now + LIFE),
        }
        self._release(publication_rules.publish, batch_id)

    def roll_back(self) -> None:
        """Roll back to the newest superseded batch, if there is one."""
        if superseded := self._in_state(ReleaseState.SUPERSEDED):
            self._release(publication_rules.rollback, superseded[-1])

    def publish_again(self) -> None:
        """Publish the oldest batch again."""
        if self.batches:
            self._release(publication_rules.publish, self.batches[0])

    def hold(self, above: int = 0) -> None:
        """Hold publication or release the hold, with a sequence above one that Snowflake holds."""
        home = self.live_pointers.home
        live_pointers = replace(self.live_pointers, highest_projected=above)
        held = not (home and home.hold)
        self._do(
            publication_rules.hold(live_pointers, self._request(), model=MODEL, held=held, now=self._later())
        )

    def follow(self) -> None:
        """Let the region follow home, after all items of the live batch have arrived."""
        batch_id = self.live[-1]
        if batch_id is None:
            return
        self.replica.apply_all(lambda place: place[2] == batch_id)
        self._do(load_rules.confirm_region(self.record(batch_id), region=REGION, attempt=1))
        self._do(
            publication_rules.follow_home(
                self.record(batch_id), self.live_pointers, region=REGION, now=self._later()
            )
        )

    @property
    def live_pointers(self) -> LivePointers:
        """The state of releases."""
        pointers = {region: self.registry.pointer(MODEL, region) for region in (HOME, REGION)}
        return LivePointers(home_region=HOME, home=pointers[HOME], regions={REGION: pointers[REGION]})

    def record(self, batch_id: str) -> Any:
        """Return a batch's record."""
        return self.registry.batch(MODEL, batch_id)

    def published(self, sequence: int) -> str | None:
        """Return the batch that a publication made live, or None if it made none live."""
        entry = PublicationEntry.from_attributes(self.registry.read(publication_key(MODEL, sequence)))
        return entry.batch_id if entry.makes_live else None

    def _release(self, rule: Callable[..., Transaction], batch_id: str) -> None:
        serving = ServingRecord(SCHEMA, "v7", len(ENTITIES), "0").to_json()
        told = {"minimum_life": timedelta(days=1), "retention": LIFE, "serving": serving}
        self._do(rule(self.record(batch_id), self.live_pointers, self._request(), now=self._later(), **told))

    def _do(self, transaction: Transaction) -> None:
        if self.registry.apply("any", transaction) is None:
            for write in transaction.writes:
                if write.assign or write.remove or write.add:
                    record = self.registry.read(write.key)
                    item = {name: encode_value(value) for name, value in record.items()}
                    self.replica.send((REGISTRY, MODEL, write.key.record), item)
        home = self.live_pointers.home
        self.live.append(home.batch_id if home else None)
        self.withdrawn.update(self._in_state(ReleaseState.WITHDRAWN))

    def _in_state(self, state: ReleaseState) -> list[str]:
        return [each for each in self.batches if self.record(each).release_state == state]

    def _request(self) -> ChangeRequest:
        return ChangeRequest(request_id=f"request-{len(self.live)}", actor="test")

    def _later(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@cache
def region_settings(jwks_url: str, region: str = REGION) -> Settings:
    """Return the settings of a function in a region."""
    variables = {"AWS_REGION": region, "MLPIPE_HOME_REGION": HOME, "MLPIPE_JWKS_URL": jwks_url}
    return Settings.from_environment(environment(**variables))


@dataclass
class Reader:
    """One execution environment in the region, which checks its own responses.

    Attributes:
        home: The region whose replica it reads.
        api: The application.
        token: A token for the application.
        region: The region it serves in.
        clock: The application's time.
        seen: The earliest act of home at which the last served batch can have been live; None before.
        last: The last batch it served.
        bodies: Response bodies by ETag.
    """

    home: Home
    api: ApiUnderTest
    token: str
    region: str = REGION
    clock: list[float] = field(default_factory=lambda: [0.0])
    seen: int | None = None
    last: str | None = None
    bodies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        replica, deployment = self.home.replica, DEPLOYMENT.in_region(self.region)
        services = services_of(region_settings(self.api.issuer.url, self.region))
        here = Publications(replica, deployment, pointer_seconds=0, clock=lambda: self.clock[0])
        verifier = self.api.application._services.verifier
        store = OnlineStore(replica, deployment)
        services = replace(services, verifier=verifier, publications=here, store=store)
        self.application = Application(services, "local", self.api.lines.append)

    def get(self, path: str, **options: Any) -> Answered:
        """Send a request."""
        self.api.application = self.application
        return self.api.get(f"/v1/models{path}", token=self.token, **options)

    def wait(self) -> None:
        """Stay idle until the served batch must be confirmed; if it was withdrawn, it no longer counts."""
        self.clock[0] += 120
        if self.last in self.home.withdrawn:
            self.seen = None

    def look(self) -> dict[str, Any] | None:
        """Call all routes, compare the responses with home's history, and return their provenance."""
        point = self.get(f"/{MODEL}/predictions/a")
        if point.status != 200:
            self._check_refusal(point)
            return None
        provenance = point.document["provenance"]
        batch_id, number = provenance["batch_id"], self._number(provenance)
        assert point.document["prediction"]["serial"] == number
        assert self.bodies.setdefault(point.headers["ETag"], point.event["body"]) == point.event["body"]
        known = self.get(f"/{MODEL}/predictions/a", headers={"if-none-match": point.headers["ETag"]})
        assert known.status == 304
        since = [
            act for act, live in enumerate(self.home.live) if live == batch_id and act >= (self.seen or 0)
        ]
        assert since, f"{batch_id} was not live at home any more"
        self.seen, self.last = since[0], batch_id
        body = json.dumps({"entity_ids": ENTITIES})
        many = self.get(f"/{MODEL}/predictions:batchGet", method="POST", body=body)
        assert (many.status, many.document["provenance"]) == (200, provenance)
        assert [entry["prediction"]["serial"] for entry in many.document["predictions"]] == [number] * 2
        history = self.get(f"/{MODEL}/predictions/a/history")
        assert history.status == 200
        for entry in history.document["history"]:
            told = self._number(entry["provenance"])
            assert not entry["found"] or entry["prediction"]["serial"] == told
        (listed,) = self.get("").document["models"]
        assert (listed["batch_id"], listed["sequence"]) == (batch_id, provenance["sequence"])
        assert self.get(f"/{MODEL}").document["batch_id"] == batch_id
        return provenance

    def _number(self, provenance: dict[str, Any]) -> int:
        """Return the number of a batch, after checking that the sequence made it live."""
        assert self.home.published(provenance["sequence"]) == provenance["batch_id"]
        return self.home.batches.index(provenance["batch_id"]) + 1

    def _check_refusal(self, answer: Answered) -> None:
        """Accept a refusal only from a new process, and only for records that have not arrived."""
        assert self.seen is None, self.api.last_line
        listed = self.get("")
        assert listed.status == 200
        if (REGISTRY, MODEL, POINTER) in self.home.replica.items:
            assert (answer.status, answer.problem) == (503, "publication-not-replicated")
            assert answer.headers["Retry-After"] == "1"
            problem = "urn:mlpipe:problem:publication-not-replicated"
            assert listed.document["models"] == [{"model": MODEL, "problem": problem}]
        else:
            assert (answer.status, answer.problem) == (404, "unknown-model")


@pytest.fixture
def home() -> Home:
    """Return a home region without publications."""
    return Home()


@pytest.fixture(scope="module")
def token(session_issuer: TokenIssuer) -> str:
    """Return a token for all requests of this module."""
    return session_issuer.token()


@pytest.fixture(scope="module")
def api(session_issuer: TokenIssuer) -> ApiUnderTest:
    """Return the caller of an application in the region."""
    return ApiUnderTest(session_issuer, {"AWS_REGION": REGION, "MLPIPE_HOME_REGION": HOME})


def arrive(home: Home, *records: str) -> None:
    """Let the writes of these registry records arrive in the region."""
    home.replica.apply_all(lambda place: place[2] in records)


def publication(sequence: int) -> str:
    """Return the key of a publication."""
    return publication_key(MODEL, sequence).record


def reader_of_one_batch(home: Home, api: ApiUnderTest, token: str) -> Reader:
    """Publish a first batch, let it arrive completely, and return a process that has served it."""
    home.publish()
    home.follow()
    home.replica.apply_all()
    reader = Reader(home, api, token)
    assert served(reader) == (1, 1)
    return reader


def reader_of_two_batches(home: Home, api: ApiUnderTest, token: str) -> Reader:
    """Publish two batches, let them arrive completely, and return a process that has served both."""
    reader = reader_of_one_batch(home, api, token)
    home.publish()
    home.follow()
    home.replica.apply_all()
    assert served(reader) == (2, 2)
    return reader


def served(reader: Reader) -> tuple[int, int] | None:
    """Return the number of the batch that a process serves and its sequence, or None."""
    provenance = reader.look()
    if provenance is None:
        return None
    return reader.home.batches.index(provenance["batch_id"]) + 1, provenance["sequence"]


def test_old_batch_is_served_until_publication_arrives(home: Home, api: ApiUnderTest, token: str) -> None:
    """If only the pointer has arrived, the old batch is served and an error is logged."""
    reader = reader_of_one_batch(home, api, token)
    before = reader.get(f"/{MODEL}/predictions/a")
    home.publish()
    home.follow()
    arrive(home, POINTER)
    during = reader.get(f"/{MODEL}/predictions/a")
    assert (during.event["body"], during.headers["ETag"]) == (before.event["body"], before.headers["ETag"])
    assert (api.last_line["level"], api.last_line["fault"]) == ("ERROR", "publication_not_replicated")
    assert reader.get("").status == 200
    assert api.last_line["fault"] == f"{MODEL}: publication_not_replicated"
    arrive(home, publication(2))
    assert served(reader) == (2, 2)
    assert "fault" not in api.last_line


def test_regions_have_different_etags(home: Home, api: ApiUnderTest, token: str) -> None:
    """The publication time differs between regions, so the ETag does too."""
    there = reader_of_one_batch(home, api, token)
    here = Reader(home, api, token, HOME)
    answers = [reader.get(f"/{MODEL}/predictions/a") for reader in (here, there)]
    assert answers[0].event["body"] != answers[1].event["body"]
    assert answers[0].headers["ETag"] != answers[1].headers["ETag"]
    known = {"if-none-match": answers[0].headers["ETag"]}
    assert there.get(f"/{MODEL}/predictions/a", headers=known).status == 200


def test_new_process_serves_the_previous_publication(home: Home, api: ApiUnderTest, token: str) -> None:
    """A new process serves the previous batch until the new publication arrives."""
    reader_of_one_batch(home, api, token)
    home.publish()
    home.follow()
    arrive(home, POINTER)
    assert served(Reader(home, api, token)) == (1, 1)
    assert api.last_line["fault"] == "publication_not_replicated"


def test_unconfirmed_batch_is_not_a_fallback(home: Home, api: ApiUnderTest, token: str) -> None:
    """A batch that the region may not hold completely is not served instead; the response is 503."""
    home.publish()
    home.publish()
    home.follow()
    arrive(home, POINTER, publication(1), *(batch_key(MODEL, each).record for each in home.batches))
    assert served(Reader(home, api, token)) is None
    arrive(home, publication(2))
    assert served(Reader(home, api, token)) == (2, 2)


def test_withdrawn_batch_is_not_a_fallback(home: Home, api: ApiUnderTest, token: str) -> None:
    """A new process does not serve a batch that was rolled back."""
    home.publish()
    home.follow()
    home.publish()
    home.follow()
    home.roll_back()
    home.replica.apply_all(lambda place: place[2] not in {publication(1), publication(3)})
    assert served(Reader(home, api, token)) is None
    arrive(home, publication(3))
    assert served(Reader(home, api, token)) == (1, 3)


def test_rollback_needs_only_the_pointer(home: Home, api: ApiUnderTest, token: str) -> None:
    """After a rollback the pointer is enough, since the batch's first publication says how to read it."""
    reader = reader_of_two_batches(home, api, token)
    home.roll_back()
    arrive(home, POINTER)
    assert served(reader) == served(Reader(home, api, token)) == (1, 1)
    arrive(home, publication(3))
    assert served(reader) == served(Reader(home, api, token)) == (1, 3)


def test_idle_process_does_not_serve_withdrawn_batch(home: Home, api: ApiUnderTest, token: str) -> None:
    """A process that was idle during a rollback serves the restored batch, not the withdrawn one."""
    reader = reader_of_two_batches(home, api, token)
    home.roll_back()
    home.replica.apply_all()
    home.publish()
    home.follow()
    arrive(home, POINTER)
    reader.clock[0] = 4 * 3600
    assert served(reader) == (1, 3)
    assert api.last_line["fault"] == "publication_not_replicated"


def test_idle_process_serves_only_a_valid_batch(home: Home, api: ApiUnderTest, token: str) -> None:
    """A process that was idle stops serving a batch that was withdrawn, expired or retired meanwhile."""
    reader = reader_of_one_batch(home, api, token)
    home.publish()
    home.follow()
    arrive(home, POINTER)
    record = home.replica.items[REGISTRY, MODEL, batch_key(MODEL, home.batches[0]).record]
    past = format_utc(BEGINNING - LIFE)
    faults = ("release_state", "withdrawn"), ("items_expire_at", past), ("load_state", "retired")
    for hours, (name, fault) in enumerate(faults, 4):
        reader.clock[0] = hours * 3600
        was = record[name]
        record[name] = encode_value(fault)
        assert reader.get(f"/{MODEL}/predictions/a").problem == "publication-not-replicated"
        record[name] = was
        assert served(reader) == (1, 1)


def test_many_holds_do_not_hide_the_publication(home: Home, api: ApiUnderTest, token: str) -> None:
    """After very many holds the publication is still found."""
    reader = reader_of_one_batch(home, api, token)
    for _ in range(130):
        home.hold()
    home.follow()
    home.replica.apply_all()
    assert served(reader) == served(Reader(home, api, token)) == (1, 1)


def test_hold_after_gap_is_cached_at_home(home: Home) -> None:
    """At home, a publication hidden behind a gap of holds is looked up once, then only the pointer."""
    home.publish()
    home.hold(above=500)
    home.replica.apply_all()
    deployment = Deployment("local", "000000000000", HOME, HOME)
    here = Publications(home.replica, deployment, pointer_seconds=0)
    assert here.live(MODEL, 0).sequence == 1
    reads = home.replica.reads
    assert here.live(MODEL, 0).sequence == 1
    assert home.replica.reads == reads + 1


@pytest.mark.parametrize("holds", [1, 2, 60])
def test_hold_leads_to_the_previous_publication(
    home: Home, api: ApiUnderTest, token: str, holds: int
) -> None:
    """The publication before any number of holds is served, without the batch's own record."""
    home.publish()
    for _ in range(holds):
        home.hold()
    home.follow()
    arrive(home, POINTER, publication(1), publication(holds + 1))
    assert served(Reader(home, api, token)) == (1, 1)


def test_outdated_batch_is_served_for_an_hour(home: Home, api: ApiUnderTest, token: str) -> None:
    """While a publication is missing, the old batch is served for an hour, then only if confirmed valid."""
    reader = reader_of_one_batch(home, api, token)
    home.publish()
    home.follow()
    arrive(home, POINTER)
    first = (REGISTRY, MODEL, batch_key(MODEL, home.batches[0]).record)
    record = home.replica.items.pop(first)
    for seconds in (0, 3599):
        reader.clock[0] = seconds
        assert served(reader) == (1, 1)
    reader.clock[0] = 3600
    assert reader.get(f"/{MODEL}/predictions/a").problem == "publication-not-replicated"
    home.replica.items[first] = record
    assert served(reader) == (1, 1)


@settings(
    deadline=None,
    max_examples=20,
    # Shrinking takes minutes, and the histories are short.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.sampled_from(ACTS) | st.integers(0, 30), min_size=4, max_size=24),
    idle=st.booleans(),
    data=st.data(),
)
def test_readers_never_see_mixed_or_older_batches(
    api: ApiUnderTest, token: str, steps: list[str | int], idle: bool, data: st.DataObject
) -> None:
    """In any order of arrival, a warm process keeps serving whole batches; a new one may respond with 503.

    A process that was idle checks the region's records first.
    """
    home = Home()
    warm = Reader(home, api, token)
    for step in steps:
        if isinstance(step, str):
            getattr(home, step)()
        else:
            home.replica.apply(step)
            if idle:
                warm.wait()
            warm.look()
            Reader(home, api, token).look()
    home.follow()
    while home.replica.waiting:
        home.replica.apply(data.draw(st.integers(0, 30)))
        if idle:
            warm.wait()
        warm.look()
        Reader(home, api, token).look()
    last = warm.look()
    assert last == Reader(home, api, token).look()
    if last is not None:
        assert last["batch_id"] == home.live[-1]
        assert "fault" not in api.last_line
