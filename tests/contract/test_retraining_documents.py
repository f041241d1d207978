"""Tests of a retraining's documents: inputs, plan and verdict survive writing and parsing."""

from __future__ import annotations

import json

import pytest

from prediction_contract.jobs.model_inputs import InvalidInputsError, Judging, ModelInputs
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.jobs.retraining_plan import (
    InvalidRetrainingPlanError,
    PlannedFeatures,
    RetrainingPlan,
)
from prediction_contract.jobs.verdict import InvalidVerdictError, MetricComparison, SliceComparison, Verdict

PLAN = RetrainingPlan(
    model="churn",
    execution_id="abc123",
    attempt=1,
    claimed_by="abc123",
    cause="request",
    requested_by="none",
    code_version="v",
    inputs_key="models/churn/inputs-1.json",
    schema_key="models/churn/schema-1.json",
    first_partition="2013-02-01",
    last_partition="2013-02-05",
    first_held_out="2013-02-07",
    last_held_out="2013-02-08",
    features=(PlannedFeatures(partition="2013-02-01", prefix="features/churn/dt=2013-02-01/r/", digest="d"),),
    champion=PinnedModel(digest="0123456789abcdef", key="models/churn/m.tar.gz", sha256="0" * 64, version=3),
    champion_sequence=2,
    champion_trained_until="2013-01-20",
)
VERDICT = Verdict(
    model="churn",
    execution_id="abc123",
    candidate_digest="fedcba9876543210",
    candidate_key="models/churn/candidates/j/output/model.tar.gz",
    candidate_sha256="1" * 64,
    champion_version=3,
    champion_digest="0123456789abcdef",
    trained_until="2013-02-05",
    first_held_out="2013-02-07",
    last_held_out="2013-02-08",
    is_new=1,
    better=1,
    worse_slices=0,
    needs_person=0,
    approval="Approved",
    reason="Better",
    metrics=(
        MetricComparison(
            name="mae:spending",
            better="lower",
            rows=10,
            candidate=1.0,
            champion=2.0,
            gain=0.5,
            gain_low=None,
            baselines={"train_mean": 3.0},
            beats_baselines=True,
        ),
    ),
    slices=(
        SliceComparison(
            column="region", value="north", rows=5, candidate=None, champion=None, is_worse=False
        ),
    ),
    trained_rows=720,
    libraries={"lightgbm": "4.7.0"},
)


def test_model_inputs_round_trip() -> None:
    """A model's inputs reach its jobs, and without later members the document keeps its content and key."""
    plain = ModelInputs(model="churn", functions="acme.defs.churn")
    expected = (
        b'{"codecs":[],"entity":null,"functions":"acme.defs.churn","metrics":[],"model":"churn",'
        b'"outcomes":false,"prepared":null,"sources":[],"tables":"pandas","trained_elsewhere":null}'
    )
    assert plain.to_document() == ("models/churn/inputs-c54d0698b3cfb681.json", expected)
    assert ModelInputs.parse(plain.to_document()[1]) == plain
    judged = ModelInputs(
        model="churn",
        functions="acme.defs.churn",
        judging=Judging(slices=("region",), margin=0.02, is_approved_by_rule=True),
    )
    key, content = judged.to_document()
    assert ModelInputs.parse(content) == judged
    assert key != plain.to_document()[0]
    with pytest.raises(InvalidInputsError, match="cannot be read"):
        ModelInputs.parse(content.replace(b'"margin"', b'"margins"'))


def test_plan_round_trip() -> None:
    """A plan survives writing and parsing, and only the execution that claimed it may proceed."""
    assert RetrainingPlan.parse(PLAN.to_bytes()) == PLAN
    assert json.loads(PLAN.to_bytes())["proceed"] == 1
    second = PLAN.to_bytes().replace(b'"claimed_by": "abc123"', b'"claimed_by": "first"')
    assert json.loads(RetrainingPlan.parse(second).to_bytes())["proceed"] == 0
    with pytest.raises(InvalidRetrainingPlanError, match=r"cannot be read.*Start a new retraining"):
        RetrainingPlan.parse(b"[]")


def test_verdict_round_trip() -> None:
    """A verdict survives writing and parsing, with its flags as numbers that a pipeline can compare."""
    assert Verdict.parse(VERDICT.to_bytes()) == VERDICT
    flags = {"is_new", "better", "worse_slices", "needs_person"}
    assert {type(json.loads(VERDICT.to_bytes())[name]) for name in flags} == {int}
    with pytest.raises(InvalidVerdictError, match=r"cannot be read.*Run the retraining again"):
        Verdict.parse(b'{"metrics": 3}')
