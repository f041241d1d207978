"""A load that was taken for dead and continues does no harm, and leftovers of dead loads are dropped."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from glue_scripts import load_job
from glue_scripts.claim import Claim
from glue_scripts.dynamodb.acknowledgement import Acknowledgement
from glue_scripts.dynamodb.item_writer import OnlineWriter
from glue_scripts.dynamodb.online_load import OnlineLoad
from glue_scripts.errors import ClaimNotHeldError, LoadFailedError
from glue_scripts.load_job import LoadJob
from glue_scripts.snowflake import load_records
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

ROWS: list[dict[str, Any]] = [{"flight": f"F-{number:03}", "seats": number} for number in range(120)]


def test_load_that_lost_its_claim_writes_nothing(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job run that finds its claim replaced before writing changes no store and writes no report."""
    written = platform.builder.write(ROWS)
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    stage = WarehouseLoader.stage

    def replace_claim(loader: WarehouseLoader) -> None:
        stage(loader)
        if not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))

    monkeypatch.setattr(WarehouseLoader, "stage", replace_claim)
    with pytest.raises(ClaimNotHeldError):
        load(stale)
    assert platform.stores() == ({}, [])
    assert platform.record().claim_token == fresh[0].claim_token
    with pytest.raises(ClientError):
        platform.report(stale)
    load(fresh[0])
    check_stores(platform, written)


def test_load_that_lost_its_claim_at_the_end_is_not_loaded(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job run that lost its claim after writing cannot mark the batch as loaded; its successor can."""
    written = platform.builder.write(ROWS)
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    put = LoadJob._put

    def replace_claim(one: LoadJob, report: LoadReport) -> None:
        put(one, report)
        if not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))

    monkeypatch.setattr(LoadJob, "_put", replace_claim)
    with pytest.raises(ClaimNotHeldError):
        load(stale)
    record = platform.record()
    assert (record.load_state, record.claim_token) == ("loading", fresh[0].claim_token)
    load(fresh[0])
    assert platform.record().unverified_attempt == 2
    check_stores(platform, written)


def test_lost_completion_response_keeps_the_report(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the registry's response to the completion is lost, the report still has the evidence."""
    written = platform.builder.write(ROWS)
    arguments = platform.claim(written)
    complete = Claim.complete

    def lose_the_answer(claim: Claim, expire_at: int) -> None:
        complete(claim, expire_at)
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    monkeypatch.setattr(Claim, "complete", lose_the_answer)
    with pytest.raises(LoadFailedError, match="ReadTimeoutError"):
        load(arguments)
    assert platform.record().load_state == "loaded"
    assert platform.report(arguments).evidence() is not None


@pytest.mark.parametrize("step", ["record", "prepare", "copy", "begin", "verify", "renew", "commit"])
def test_zombie_at_any_step_duplicates_no_rows(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever of two loads moves its rows first, each row is stored once."""
    written = platform.builder.write(ROWS)
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    run = WarehouseLoader._run

    def sleep_meanwhile(loader: WarehouseLoader, now: str, *arguments: Any) -> Any:
        if now == step and not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))
            with contextlib.suppress(LoadFailedError):
                load(fresh[0])
        return run(loader, now, *arguments)

    monkeypatch.setattr(WarehouseLoader, "_run", sleep_meanwhile)
    with pytest.raises((ClaimNotHeldError, LoadFailedError)):
        load(stale)
    if platform.record().load_state != "loaded":
        # The zombie's transaction had locked its record, so the successor failed.
        assert step == "commit"
        assert platform.record().claim_token is None
        load(platform.claim(written))
    check_stores(platform, written)
    assert platform.staging_tables() == []


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (load_job, "survey_batch"),
        (Claim, "begin_writing"),
        (OnlineWriter, "write_items"),
        (Acknowledgement, "record"),
        (OnlineLoad, "verify"),
        (Claim, "complete"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rpartition(".")[2],
)
def test_zombie_after_its_successor_changes_nothing(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch, target: Any, name: str
) -> None:
    """A load that continues after its successor has finished ends with an error and changes nothing."""
    written = platform.builder.write(ROWS[:60], ROWS[60:])
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    go_on = getattr(target, name)

    def sleep_meanwhile(*arguments: Any, **options: Any) -> Any:
        if not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))
            load(fresh[0])
        return go_on(*arguments, **options)

    monkeypatch.setattr(target, name, sleep_meanwhile)
    with pytest.raises((ClaimNotHeldError, LoadFailedError)):
        load(stale)
    record = platform.record()
    assert (record.load_state, record.unverified_attempt, record.claim_token) == ("loaded", 2, None)
    assert platform.report(fresh[0]).evidence() is not None
    check_stores(platform, written)
    assert platform.staging_tables() == []


def test_load_overtaken_in_snowflake_rolls_back(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job run whose record in Snowflake was deleted rolls back."""
    written = platform.builder.write(ROWS)
    run = WarehouseLoader._run

    def overtake(loader: WarehouseLoader, step: str, *arguments: Any) -> Any:
        if step == "begin":
            run(loader, "take_over", loader._record.delete())
        return run(loader, step, *arguments)

    monkeypatch.setattr(WarehouseLoader, "_run", overtake)
    with pytest.raises(ClaimNotHeldError, match="A later load has taken the batch over"):
        load(platform.claim(written))
    assert platform.warehouse() == []


def test_leftovers_of_a_dead_load_are_dropped(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging tables of another batch's dead load are dropped once they are old enough, not before."""
    dead = platform.builder.write(ROWS, batch_id="20130201T070000Z-0123abcd")
    clean_up = WarehouseLoader.clean_up
    monkeypatch.setattr(WarehouseLoader, "clean_up", lambda _loader: None)
    load(platform.claim(dead))
    monkeypatch.setattr(WarehouseLoader, "clean_up", clean_up)
    written = platform.builder.write(ROWS)
    load(platform.claim(written))
    assert len(platform.staging_tables()) == 2
    time.sleep(1.1)  # records are dated by the second
    monkeypatch.setattr(load_records, "FORGOTTEN_AFTER", timedelta(0))
    load(platform.claim(written))
    assert platform.staging_tables() == []
    check_stores(platform, written)
