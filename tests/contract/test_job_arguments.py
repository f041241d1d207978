"""Tests of job arguments: round trips over Glue and SageMaker, and refusals by name."""

from __future__ import annotations

import string
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import (
    LONGEST_ARGUMENT,
    MAX_WAIT_MINUTES,
    FeatureArguments,
    LoadArguments,
    ScoreArguments,
    container_environment,
)
from prediction_contract.limits import (
    MAX_ENVIRONMENT_VARIABLES,
    MAX_GLUE_ARGUMENT_BYTES,
    MAX_OBJECT_KEY_BYTES,
)
from prediction_contract.naming.s3_layout import HIGHEST_VERSION

BATCH = "20130201T060000Z-0123abcd"
WORDS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.:/=+@,-]{0,60}\Z")
IDENTIFIERS = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,30}\Z")
KEYS = st.from_regex(r"\A[a-z0-9=]{1,20}(/[a-z0-9=._-]{0,20}[a-z]){0,3}\Z")
COUNTS = st.integers(1, 2**63 - 1)
MODELS = st.from_regex(r"\A[a-z][a-z0-9_]{0,40}\Z")
PARTITIONS = st.dates().map(str)

LOADS = st.builds(
    LoadArguments,
    model=MODELS,
    batch_id=st.just(BATCH),
    bucket=st.just("mlpipe-data"),
    manifest_key=KEYS,
    manifest_digest=st.text(string.hexdigits[:16], min_size=64, max_size=64),
    claim_token=WORDS,
    load_attempt=COUNTS,
    registry_table=WORDS,
    online_table=WORDS,
    items_expire_at=COUNTS,
    snowflake_secret=WORDS,
    snowflake_database=IDENTIFIERS,
    snowflake_schema=IDENTIFIERS,
    snowflake_warehouse=IDENTIFIERS,
    snowflake_stage=IDENTIFIERS,
    snowflake_integration=IDENTIFIERS,
    report_key=KEYS,
    verify=st.sampled_from(["full", "sample", "scan"]),
    quarantine_rows=st.none() | st.integers(0, 100),
    quarantine_rate=st.none() | st.decimals(0, 1, places=6),
    max_write_units_per_second=st.none() | COUNTS,
    wait_minutes=st.none() | st.integers(0, MAX_WAIT_MINUTES),
)
SCORES = st.builds(
    ScoreArguments,
    model=MODELS,
    partition=PARTITIONS,
    bucket=st.just("mlpipe-data"),
    lookback=st.integers(0, 30),
    schema_key=KEYS,
    inputs_key=KEYS,
    registry_table=WORDS,
    code_version=WORDS,
    batch_id=st.none() | st.just(BATCH),
    attempt=COUNTS,
    version=st.none() | st.integers(1, HIGHEST_VERSION),
    features_prefix=st.none() | st.just("features/m/dt=2013-02-01/run=1/"),
    chunk_rows=st.none() | COUNTS,
    quarantine_rows=st.none() | st.integers(0, 100),
    quarantine_rate=st.none() | st.decimals(0, 1, places=6),
)
SCORE = ScoreArguments(
    model="m",
    partition="2013-02-01",
    bucket="mlpipe-data",
    lookback=1,
    schema_key="code/m.json",
    registry_table="registry",
    code_version="v",
    inputs_key="models/m/inputs-abc.json",
)


@settings(max_examples=40)
@given(LOADS)
def test_load_arguments_survive_glue(arguments: LoadArguments) -> None:
    """The script parses the arguments that the client built, among those that Glue adds."""
    argv = ["--JOB_NAME", "load", "--JOB_RUN_ID", "jr_1", "--TempDir", "s3://x/y", "--enable-metrics"]
    for name, value in arguments.glue_arguments().items():
        argv += [name, value]
    argv += ["--job-bookmark-option", "job-bookmark-disable", "--model-extra", "x"]
    assert LoadArguments.parse(argv) == arguments


@given(SCORES)
def test_score_arguments_survive_a_container(arguments: ScoreArguments) -> None:
    """The container's script parses the arguments that the client built, within SageMaker's limits."""
    argv = arguments.container_arguments()
    assert len(argv) <= 100
    assert all(0 < len(argument) <= 256 for argument in argv)
    assert ScoreArguments.parse(argv) == arguments


def test_feature_arguments_survive_a_container() -> None:
    """The script of a features job parses the arguments that the client built."""
    features = FeatureArguments(
        model="m",
        partition="2013-02-01",
        last_partition="2013-02-28",
        bucket="mlpipe-data",
        run_id="r-1",
        code_version="abc",
        inputs_key="models/m/inputs-abc.json",
    )
    assert FeatureArguments.parse(features.container_arguments()) == features


@pytest.mark.parametrize("name", ["model", "code_version", "attempt"])
def test_required_argument_cannot_be_none(name: str) -> None:
    """A client cannot build arguments without a required one, and the error names it."""
    with pytest.raises(JobArgumentsError, match=f"{name} is wrong: it is missing"):
        replace(SCORE, **{name: None})


def test_run_id_unfit_for_a_key_is_refused() -> None:
    """A run id that cannot be part of a key is refused when the arguments are built."""
    for run_id in ("../r", "a/b", "a=b", "r" * 129):
        with pytest.raises(JobArgumentsError, match="run_id"):
            FeatureArguments(
                model="m",
                partition="2013-02-01",
                bucket="mlpipe-data",
                run_id=run_id,
                code_version="a",
                inputs_key="models/m/inputs-abc.json",
            )


TICK = {"partition": None, "scheduled_at": "2013-02-03T01:00:00Z", "schedule": "ended:2013-01-01:2014-01-01"}


def test_tick_determines_due_partition() -> None:
    """The script finds the due partition from the tick's time and the schedule."""
    due = replace(SCORE, **TICK)
    assert ScoreArguments.parse(due.container_arguments()) == due
    assert due.due_partition() == replace(SCORE, partition="2013-02-02").due_partition() == "2013-02-02"
    for schedule, partition in (("ended:2013-W01", "2013-W04"), ("current:2013-01", "2013-02")):
        assert replace(due, schedule=schedule).due_partition() == partition
    after = replace(due, scheduled_at="2014-01-02T01:00:00Z")
    with pytest.raises(
        JobArgumentsError,
        match=r"2014-01-01 is due then, but is not a partition of m: .* end before 2014-01-01",
    ):
        after.due_partition()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partition": None}, "partition is wrong: it is missing, and so is scheduled_at"),
        (TICK | {"partition": "2013-02-02"}, "scheduled_at is wrong: the partition is named already"),
        (TICK | {"schedule": None}, "schedule is wrong: it belongs to scheduled_at"),
        ({"schedule": "ended:2013-01-01"}, "schedule is wrong: it belongs to scheduled_at"),
        (TICK | {"scheduled_at": "2013-02-03"}, "scheduled_at"),
        (TICK | {"schedule": "next:2013-01-01"}, "schedule"),
        ({"run_id": "r", "batch_id": BATCH}, "run_id is wrong: batch_id, attempt and features_prefix follow"),
        ({"run_id": "r", "attempt": 2}, "run_id"),
        ({"run_id": "r", "features_prefix": "features/m/run=1/"}, "run_id"),
    ],
)
def test_contradictory_arguments_are_refused(changes: dict[str, str], words: str) -> None:
    """Arguments with a missing or ambiguous partition or run are refused."""
    with pytest.raises(JobArgumentsError, match=words):
        replace(SCORE, **changes)


def test_tick_excludes_last_partition() -> None:
    """A tick makes one partition due, so it cannot be combined with a last partition."""
    named = FeatureArguments(
        model="m",
        partition="2013-02-01",
        bucket="mlpipe-data",
        run_id="r",
        code_version="a",
        inputs_key="models/m/inputs-abc.json",
    )
    assert replace(named, **TICK).due_partition() == "2013-02-02"
    with pytest.raises(JobArgumentsError, match="last_partition"):
        replace(named, **TICK, last_partition="2013-02-03")


def test_omitted_arguments_take_their_defaults() -> None:
    """Arguments that are None are not passed, and the script uses their defaults."""
    arguments = SCORE.glue_arguments()
    assert "--batch_id" not in arguments
    assert arguments.pop("--attempt") == "1"
    assert ScoreArguments.parse([text for pair in arguments.items() for text in pair]) == SCORE


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "partition",
        "bucket",
        "lookback",
        "schema_key",
        "registry_table",
        "code_version",
        "inputs_key",
    ],
)
def test_missing_argument_is_named(name: str) -> None:
    """The error names a required argument that is missing or has no value."""
    arguments = SCORE.glue_arguments()
    del arguments[f"--{name}"]
    argv = [text for pair in arguments.items() for text in pair]
    for given_argv in (argv, [*argv, f"--{name}"]):
        with pytest.raises(JobArgumentsError, match=name):
            ScoreArguments.parse(given_argv)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model", "../m"),
        ("partition", "yesterday"),
        ("bucket", "s3://bucket"),
        ("lookback", "-1"),
        ("lookback", "1.0"),
        ("lookback", "٣"),
        ("lookback", "9" * 30),
        ("attempt", "0"),
        ("attempt", "1_0"),
        ("batch_id", "x"),
        ("code_version", "a b"),
        ("code_version", ""),
        ("code_version", "-v"),
        ("version", "0"),
        ("version", str(HIGHEST_VERSION + 1)),
        ("features_prefix", "features/../models/"),
        ("features_prefix", "features/m"),
        ("features_prefix", "/"),
    ],
)
def test_invalid_value_is_refused_on_both_sides(name: str, text: str) -> None:
    """Client and script both refuse an invalid value, and the error names the argument."""
    argv = SCORE.container_arguments()
    with pytest.raises(JobArgumentsError, match=name):
        ScoreArguments.parse([*argv, f"--{name}={text}"])
    with pytest.raises(JobArgumentsError, match=name):
        replace(SCORE, **{name: text})


@pytest.mark.parametrize("rate", ["NaN", "1.1", "-0.1", "1e-3", "", ".", "1..0", "Infinity"])
def test_quarantine_rate_is_between_0_and_1(rate: str) -> None:
    """Only plain decimal numbers from 0 to 1 are accepted as the quarantine rate."""
    argv = [text for pair in LOAD.glue_arguments().items() for text in pair]
    assert LoadArguments.parse([*argv, "--quarantine_rate", "0.25"]).quarantine_rate == Decimal("0.25")
    with pytest.raises(JobArgumentsError, match="quarantine_rate"):
        LoadArguments.parse([*argv, f"--quarantine_rate={rate}"])


LOAD = LoadArguments(
    model="m",
    batch_id=BATCH,
    bucket="mlpipe-data",
    manifest_key="done/x.json",
    manifest_digest="0" * 64,
    claim_token="t",
    load_attempt=1,
    registry_table="r",
    online_table="o",
    items_expire_at=1,
    snowflake_secret="s",
    snowflake_database="D",
    snowflake_schema="S",
    snowflake_warehouse="W",
    snowflake_stage="L",
    snowflake_integration="I",
    report_key="reports/x.json",
)


def test_sagemaker_limits_are_enforced() -> None:
    """Arguments and variables beyond SageMaker's limits are refused before the call."""
    too_long = replace(SCORE, schema_key="k" * 300)
    with pytest.raises(JobArgumentsError, match="schema_key"):
        too_long.container_arguments()
    assert container_environment({"A_1": "x" * 256}) == {"A_1": "x" * 256}
    for environment in ({"A": "x" * 257}, {"A-B": "x"}, {"": "x"}):
        with pytest.raises(JobArgumentsError):
            container_environment(environment)
    full = {f"A_{number}": "x" for number in range(MAX_ENVIRONMENT_VARIABLES)}
    assert container_environment(full) == full
    with pytest.raises(JobArgumentsError, match="101 variables; at most 100 are allowed"):
        container_environment(full | {"B": "x"})


def test_longest_load_arguments_fit_glue() -> None:
    """The longest cleaning rules, keys and ids together fit Glue's limit, and longer rules are refused."""
    longest = replace(
        LOAD,
        cleaning="c" * LONGEST_ARGUMENT,
        manifest_key="m" * MAX_OBJECT_KEY_BYTES,
        report_key="r" * MAX_OBJECT_KEY_BYTES,
        claim_token="t" * 255,
        dagster_run_id="d" * 255,
    )
    arguments = longest.glue_arguments()
    assert sum(map(len, [*arguments, *arguments.values()])) < MAX_GLUE_ARGUMENT_BYTES // 1.5
    with pytest.raises(JobArgumentsError, match=f"at most {LONGEST_ARGUMENT} characters"):
        replace(LOAD, cleaning="c" * (LONGEST_ARGUMENT + 1))
