"""The load's smaller parts: settings, engines, secrets, thresholds, progress."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dagster_pipes import encode_param

from glue_scripts import settings as settings_module
from glue_scripts.aws_clients import client, use_region
from glue_scripts.engine import ProcessEngine, SequentialEngine, SparkEngine, choose_engine
from glue_scripts.errors import LoadFailedError
from glue_scripts.progress import HEARTBEAT_SECONDS, Progress, count_rows, open_progress
from glue_scripts.settings import LoadSettings
from glue_scripts.snowflake.snowflake_connection import connection_arguments
from prediction_contract.errors import InvalidNameError, JobArgumentsError
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.naming.batch import ModelName
from tests.glue.load_platform import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from glue_scripts.engine import Engine

BATCH = "20130201T060000Z-0123abcd"
ARGUMENTS = LoadArguments(
    model="flight_delay",
    batch_id=BATCH,
    bucket="bucket",
    manifest_key=f"done/2013-02-01/flight_delay/{BATCH}.json",
    manifest_digest="ab" * 32,
    claim_token="token",
    load_attempt=1,
    registry_table="registry",
    online_table="online",
    items_expire_at=1_900_000_000,
    snowflake_secret="mlpipe-local-snowflake",
    snowflake_database="D",
    snowflake_schema="S",
    snowflake_warehouse="W",
    snowflake_stage="PREDICTION_FILES",
    snowflake_integration="S3_X",
    report_key=f"reports/flight_delay/{BATCH}/load-1.json",
)
REGION = "eu-north-1"
LOGIN = {"account": "a", "user": "u", "password": "hidden-word"}


def command_line(arguments: LoadArguments = ARGUMENTS) -> list[str]:
    """Return a job run's command line, with some of Glue's own arguments."""
    pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
    glues_own = ["--JOB_NAME", "load", "--JOB_RUN_ID", "jr_1", "--aws_region", REGION]
    return [*glues_own, *pairs, "--enable-metrics", "true"]


def test_settings_are_read_from_glues_command_line() -> None:
    """Arguments and job run id are found among Glue's own; Pipes only where Dagster asks for it."""
    settings = LoadSettings.read(command_line(), {})
    assert (settings.arguments, settings.job_run_id) == (ARGUMENTS, "jr_1")
    assert settings.region == REGION
    assert not settings.is_piped
    assert LoadSettings.read([*command_line(), "--dagster-pipes-context", "x"], {}).is_piped
    assert LoadSettings.read(command_line(), {"DAGSTER_PIPES_CONTEXT": "x"}).is_piped_by_environment


@pytest.mark.parametrize(
    "change",
    [
        {"manifest_key": f"done/2013-02-01/other/{BATCH}.json"},
        {"report_key": f"reports/other/{BATCH}/load-1.json"},
        {"items_expire_at": 2**62},
    ],
)
def test_arguments_of_another_batch_are_refused(change: dict[str, Any]) -> None:
    """A manifest or report of another batch, or a TTL that is no moment: nothing is done."""
    with pytest.raises(JobArgumentsError, match=next(iter(change))):
        LoadSettings.read(command_line(replace(ARGUMENTS, **change)), {})


def test_a_script_without_a_job_run_id_is_refused() -> None:
    """Nobody could be named in the claim."""
    with pytest.raises(JobArgumentsError, match="JOB_RUN_ID"):
        LoadSettings.read(command_line()[4:], {})


def test_a_script_that_is_told_no_region_is_refused() -> None:
    """Neither by the job's definition nor by the environment."""
    line = command_line()
    del line[4:6]
    with pytest.raises(JobArgumentsError, match="aws_region"):
        LoadSettings.read(line, {})
    assert LoadSettings.read(line, {"AWS_REGION": "us-west-1"}).region == "us-west-1"


class FakeSparkContext:
    """Runs each slice in a process of its own, whose environment names no region."""

    defaultParallelism = 1  # noqa: N815  # Spark's name

    def parallelize(self, tasks: list[Any], _slices: int) -> FakeSparkContext:
        """Take the tasks."""
        self._tasks = tasks
        return self

    def mapPartitions(self, function: Any) -> FakeSparkContext:  # noqa: N802  # Spark's name
        """Take the partition function."""
        self._function = function
        return self

    def collect(self) -> list[Any]:
        """Carry function and tasks to the executor, and its results back."""
        program = (
            "import pickle, sys; function, tasks = pickle.load(sys.stdin.buffer); "
            "pickle.dump(list(function(tasks)), sys.stdout.buffer)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps((self._function, self._tasks)),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull},
            capture_output=True,
            timeout=60,
            check=True,
        )
        return pickle.loads(done.stdout)  # what the process of this test wrote


def region_of_client(service: str) -> str:
    """Return the region that a function which an engine runs speaks to."""
    return client(service).meta.region_name


@pytest.mark.parametrize(
    "engine", [SparkEngine(FakeSparkContext()), ProcessEngine(1)], ids=lambda each: each.name
)
def test_executors_without_a_region_speak_to_the_jobs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs elsewhere makes its clients for the job run's region."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    use_region(REGION)
    try:
        assert list(engine.run(region_of_client, ["s3", "dynamodb"])) == [REGION, REGION]
    finally:
        use_region(None)


def test_both_engines_give_the_same_results_in_order() -> None:
    """Where the work is done changes nothing of what comes out."""
    names = ["a", "b", "c", "d", "e"]
    assert list(SequentialEngine().run(ModelName, names)) == names
    assert list(ProcessEngine(2).run(ModelName, names)) == names


def test_an_error_comes_out_of_a_process_as_it_was_raised() -> None:
    """A fault that another process found is still of its own kind, with its remedy."""
    with pytest.raises(InvalidNameError, match="'B' is not a model name") as raised:
        list(ProcessEngine(1).run(ModelName, ["a", "B"]))
    assert raised.value.remedy.startswith("Use a lower-case letter")


def test_a_killed_load_leaves_no_process_at_work(tmp_path: Path) -> None:
    """The processes of a pool end with the one that made it, whatever they were at."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import time\n"
        "from glue_scripts.engine import ProcessEngine\n"
        "if __name__ == '__main__':\n"
        "    for _ in ProcessEngine(2).run(time.sleep, [0, 60, 60, 60]):\n"
        "        print('working', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == b"working\n"
        processes = psutil.Process(load.pid).children(recursive=True)
        load.kill()
    assert processes
    _, left = psutil.wait_procs(processes, timeout=20)
    assert left == []


def test_few_parts_need_no_pool() -> None:
    """A pool is made where there are parts and processors for it."""
    assert choose_engine(1, processes=8, has_spark=True).name == "sequential"
    assert choose_engine(100, processes=1, has_spark=False).name == "sequential"
    assert choose_engine(5, processes=8, has_spark=False).concurrency == 5


@pytest.mark.parametrize(
    ("environment", "package", "has_spark"),
    [
        ({"PYSPARK_GATEWAY_PORT": "1"}, False, True),
        ({"JAVA_HOME": "/java"}, True, True),
        ({"PATH": "bin"}, True, True),
        ({"PATH": "bin"}, False, False),
        ({}, True, False),
    ],
)
def test_spark_is_used_where_glue_or_java_and_the_package_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    *,
    package: bool,
    has_spark: bool,
) -> None:
    """The environment and what is installed decide, so the script is the same everywhere."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings_module, "find_spec", lambda _name: object() if package else None)
    assert LoadSettings.read(command_line(), environment).has_spark is has_spark


def test_a_password_is_used_where_the_secret_has_one() -> None:
    """What the secret may set is passed on; where the batch goes is the job's argument."""
    secret = json.dumps(LOGIN | {"port": 1, "protocol": "http", "database": "OTHER", "insecure_mode": True})
    made = connection_arguments(secret, ARGUMENTS, "tag")
    assert made["password"] == "hidden-word"
    assert (made["database"], made["port"]) == ("D", 1)
    assert "insecure_mode" not in made
    expected = {"TIMEZONE": "UTC", "DATE_OUTPUT_FORMAT": "YYYY-MM-DD", "QUERY_TAG": "tag"}
    assert made["session_parameters"].items() >= expected.items()


def test_no_wait_for_snowflake_is_without_end() -> None:
    """Requests, logins, locks and statements end within Glue's hour; a secret may shorten the network's."""
    made = connection_arguments(json.dumps(LOGIN), ARGUMENTS, "tag")
    parameters = made["session_parameters"]
    waits = [made["network_timeout"], made["login_timeout"], parameters["LOCK_TIMEOUT"]]
    assert all(0 < seconds < 3600 for seconds in [*waits, parameters["STATEMENT_TIMEOUT_IN_SECONDS"]])
    shorter = connection_arguments(json.dumps(LOGIN | {"network_timeout": 1}), ARGUMENTS, "tag")
    assert shorter["network_timeout"] == 1


@pytest.mark.parametrize("passphrase", [None, "phrase"])
def test_a_key_pair_is_used_where_the_secret_has_one(passphrase: str | None) -> None:
    """The PEM key goes to the connector as DER, decrypted, and no password beside it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    guard = (
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, guard).decode()
    secret = {"account": "a", "user": "u", "private_key": pem, "private_key_passphrase": passphrase}
    made = connection_arguments(json.dumps(secret), ARGUMENTS, "tag")
    found = serialization.load_der_private_key(made["private_key"], None)
    assert isinstance(found, rsa.RSAPrivateKey)
    assert found.private_numbers() == key.private_numbers()
    assert "password" not in made


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "hidden-word",
        '["hidden-word"]',
        json.dumps({"account": "hidden-word", "password": "hidden-word"}),
        json.dumps({"account": "a", "user": "hidden-word"}),
        json.dumps(LOGIN | {"port": "hidden-word"}),
        json.dumps(LOGIN | {"private_key": "hidden-word"}),
    ],
)
def test_a_wrong_secret_is_named_and_never_told(secret: str) -> None:
    """The error names the secret and what it lacks; nothing of its value is in the error or its cause."""
    with pytest.raises(LoadFailedError, match="mlpipe-local-snowflake") as raised:
        connection_arguments(secret, ARGUMENTS, "tag")
    assert "hidden-word" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_long_step_gives_signs_of_life() -> None:
    """While a step goes on, its rows are reported again and again, and its time is kept."""
    heard: list[dict[str, Any]] = []
    progress = Progress(lambda kind, values: heard.append({"kind": kind, **values}), heartbeat_seconds=0.05)
    with progress.step("write"):
        progress.advance(7)
        deadline = time.monotonic() + 20
        while len(heard) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert [one["step"] for one in heard[:3]] == ["write"] * 3
    assert heard[-1]["rows"] == 7
    assert progress.durations["write"] >= 50
    silent = len(heard)
    time.sleep(0.2)
    assert len(heard) == silent


def test_dagster_hears_of_a_load_at_least_every_ten_seconds() -> None:
    """What a heartbeat reports waits for the next upload of messages, which is as often."""
    assert 2 * HEARTBEAT_SECONDS < 10


def test_progress_reports_rows_within_a_part_their_rate_and_what_is_left() -> None:
    """Rows that a part's function has come through count before the part has ended."""
    heard: list[dict[str, Any]] = []
    progress = Progress(lambda _kind, values: heard.append(dict(values)), heartbeat_seconds=0.05)
    engine = SequentialEngine()
    progress.watch(engine.counter)
    for _ in range(2):  # what the step before counted is not this one's
        with progress.step("write", 400):
            assert list(engine.run(count_rows, [100])) == [None]
            deadline = time.monotonic() + 20
            while heard[-1]["rows"] != 100 and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.15)
        last = heard[-1]
        assert last["rows"] == 100
        assert last["rows_per_second"] > 0
        assert last["eta_seconds"] == pytest.approx(300 / last["rows_per_second"], rel=0.2, abs=1)


def test_rows_are_counted_across_processes_and_few_results_are_held() -> None:
    """What the pool's processes come through is seen here; a pool of many tasks gives each result once."""
    engine = ProcessEngine(2)
    assert list(engine.run(count_rows, [7] * 20)) == [None] * 20
    assert engine.counter.value == 140


def test_dagster_hears_of_it_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pipes was set up by variables, what is reported arrives as custom messages."""
    messages = tmp_path / "messages"
    names = ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")
    more = ("partition_key_range", "partition_time_window", "job_name")
    context = dict.fromkeys((*names, *more)) | {"run_id": "r", "retry_number": 0, "extras": {}}
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"data": context}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(messages)}))
    settings = LoadSettings(ARGUMENTS, "jr_1", 1, REGION, is_piped_by_environment=True)
    with open_progress(settings, None) as progress:
        progress.report("load_ended", {"status": "loaded"})
    sent = [json.loads(line) for line in messages.read_text().splitlines()]
    payloads = [one["params"]["payload"] for one in sent if one["method"] == "report_custom_message"]
    assert payloads == [{"kind": "load_ended", "status": "loaded"}]
