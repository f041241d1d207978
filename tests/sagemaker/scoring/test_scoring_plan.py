"""Tests of shares and scoring plans: every host gets the same ones, and never those of other code."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.pinned_model import PinnedModel
from sagemaker_scripts.scoring import scoring_plan
from sagemaker_scripts.scoring.hosts import Hosts
from sagemaker_scripts.scoring.planning import chunk_rows_of
from sagemaker_scripts.scoring.scoring_plan import (
    PlannedPrevious,
    ScoringPlan,
    ScoringPlanError,
    find_or_make_plan,
    wait_for_plan,
)
from sagemaker_scripts.scoring.shares import Share, Span, shares_of_buckets, shares_of_groups
from tests.fakes.memory_s3 import MemoryS3

PREFIX = "predictions/m/json/dt=2013-02-01/batch=b/attempt=1/"
PLAN = ScoringPlan(
    schema_key="models/m/schema-1.json",
    inputs_key="models/m/inputs-1.json",
    code_version="v",
    features_prefix="features/m/dt=2013-02-01/run=1/",
    features_digest="0" * 64,
    model=PinnedModel(digest="1" * 16, key="models/m/1/output/model.tar.gz", sha256="1" * 64, version=3),
    previous=PlannedPrevious(batch_id="20130131T060000Z-00000001", manifest_digest="2" * 64, cleaning=None),
    rows=100,
    chunk_rows=10,
    buckets=0,
    shares=(Share("00000", 60, 0, (Span(0, 0, 2), Span(1, 0, 1))), Share("00001", buckets=(3, 4))),
)


def store() -> ObjectStore:
    """Return an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


@pytest.mark.parametrize("seed", range(20))
def test_shares_cover_each_row_group_once_in_order(seed: int) -> None:
    """Shares cover all row groups in order, and all but the last have at least a chunk of rows."""
    draw = random.Random(seed)
    files = [[draw.randint(0, 60) for _ in range(draw.randint(0, 9))] for _ in range(draw.randint(0, 9))]
    shares = shares_of_groups(files, chunk_rows=50)
    spans = [span for share in shares for span in share.spans]
    groups = [(span.file, span.first_group + each) for span in spans for each in range(span.groups)]
    assert groups == sorted(set(groups))
    assert sum(files[file][group] for file, group in groups) == sum(map(sum, files))
    first_row = 0
    for share in shares:
        own = [files[span.file][span.first_group : span.first_group + span.groups] for span in share.spans]
        rows = sum(map(sum, own))
        assert (share.rows, share.first_row) == (rows, first_row)
        first_row += rows
    assert all((share.rows or 0) >= 50 for share in shares[:-1])
    assert [share.name for share in shares] == sorted({share.name for share in shares})


def test_large_batches_have_shares_of_several_chunks() -> None:
    """Small batches get one share per chunk; large ones get shares of up to ten chunks."""
    few = shares_of_groups([[100_000] * 10], 100_000)
    assert [share.rows for share in few] == [100_000] * 10
    many = shares_of_groups([[100_000] * 10] * 1000, 100_000)
    assert {share.rows for share in many} == {1_000_000}
    assert [len(share.buckets) for share in shares_of_buckets(5)] == [1] * 5
    assert sum((share.buckets for share in shares_of_buckets(645)), ()) == tuple(range(645))
    assert {len(share.buckets) for share in shares_of_buckets(4000)} == {10}


@pytest.mark.parametrize(("rows", "each"), [(100, 50), (101, 34), (50, 50), (7, 7), (0, 1)])
def test_chunks_of_a_share_have_similar_sizes(rows: int, each: int) -> None:
    """A share is divided evenly, so that no call of predict gets only a handful of rows."""
    assert Share("00000", rows).rows_of_chunk(50) == each


@pytest.mark.parametrize(
    ("feature_bytes", "columns", "least", "most"),
    [(90, 10, 100_000, 100_000), (8, 300, 4_000, 5_000), (10**9, 2, 1, 1)],
)
def test_wide_rows_make_smaller_chunks(feature_bytes: int, columns: int, least: int, most: int) -> None:
    """Chunks shrink as rows get wider, so that a process holds only tens of megabytes."""
    assert least <= chunk_rows_of(feature_bytes, columns) <= most


def test_each_share_belongs_to_one_host() -> None:
    """Hosts divide the shares into consecutive ranges, so that each fetches few files."""
    shares = shares_of_buckets(7)
    names = ("algo-1", "algo-2", "algo-3")
    own = [Hosts(name, names).own_shares(shares) for name in names]
    assert sum(own, ()) == shares
    assert [len(each) for each in own] == [2, 2, 3]
    owners = Hosts("algo-1", names).owners(shares, shares[3:5])
    assert owners == {"algo-2": [shares[3]], "algo-3": [shares[4]]}


def test_first_plan_is_kept() -> None:
    """A later or concurrent run follows the first plan, even if it would plan differently."""
    bucket = store()
    assert find_or_make_plan(bucket, PREFIX, lambda: PLAN) == PLAN
    assert find_or_make_plan(bucket, PREFIX, lambda: replace(PLAN, rows=7)) == PLAN
    assert wait_for_plan(bucket, PREFIX, "algo-1", lambda: False) == PLAN
    raced = store()

    def planned_by_another() -> ScoringPlan:
        find_or_make_plan(raced, PREFIX, lambda: PLAN)
        return replace(PLAN, rows=7)

    assert find_or_make_plan(raced, PREFIX, planned_by_another) == PLAN


def test_waiting_for_a_plan_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the first host's plan ends when the batch is done or patience runs out."""
    assert wait_for_plan(store(), PREFIX, "algo-1", lambda: True) is None
    monkeypatch.setattr(scoring_plan, "PLAN_PATIENCE_SECONDS", 0.0)
    with pytest.raises(
        ScoringPlanError, match=r"algo-1, did not write .*plan\.json within 0 s\. Read the log"
    ):
        wait_for_plan(store(), PREFIX, "algo-1", lambda: False)


@pytest.mark.parametrize("name", ["schema_key", "inputs_key", "code_version"])
def test_attempt_with_different_code_or_schema_is_refused(name: str) -> None:
    """A job with another schema, inputs or code version cannot continue an attempt."""
    given: dict[str, Any] = {
        "model": "m",
        "partition": "2013-02-01",
        "bucket": "mlpipe-data",
        "lookback": 1,
        "schema_key": PLAN.schema_key,
        "inputs_key": PLAN.inputs_key,
        "registry_table": "registry",
        "code_version": PLAN.code_version,
    }
    PLAN.require_for(ScoreArguments(**given))
    with pytest.raises(ScoringPlanError, match=rf"planned with {name} .*Start the next attempt"):
        PLAN.require_for(ScoreArguments(**{**given, name: "other"}))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", PLAN.to_bytes().replace(b'"rows"', b'"lines"')])
def test_malformed_plan_is_refused(content: bytes) -> None:
    """A plan that cannot be read is refused with advice to start the next attempt."""
    with pytest.raises(ScoringPlanError, match=r"The plan cannot be read: .* Start the next attempt"):
        ScoringPlan.parse(content)
