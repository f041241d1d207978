"""Tests of the load's smaller modules: settings, engines, secrets, progress."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster_pipes
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dagster_pipes import PipesS3MessageWriter, encode_param

from glue_scripts import settings as settings_module
from glue_scripts.aws_clients import client, use_region
from glue_scripts.engine import ProcessEngine, SequentialEngine, SparkEngine, choose_engine
from glue_scripts.errors import LoadFailedError
from glue_scripts.progress import Progress, count_rows, open_progress
from glue_scripts.settings import LoadSettings
from glue_scripts.snowflake.snowflake_connection import connection_arguments
from prediction_contract.errors import InvalidNameError, JobArgumentsError
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.naming.batch import ModelName
from tests.fakes.memory_s3 import MemoryS3
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
PIPES_CONTEXT: dict[str, Any] = {
    **dict.fromkeys(("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")),
    **dict.fromkeys(("partition_key_range", "partition_time_window", "job_name")),
    "run_id": "r",
    "retry_number": 0,
    "extras": {},
}
LOGIN = {"account": "a", "user": "u", "password": "hidden-word"}


def command_line(arguments: LoadArguments = ARGUMENTS) -> list[str]:
    """Return a job run's command line, including some of Glue's own arguments."""
    pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
    glues_own = ["--JOB_NAME", "load", "--JOB_RUN_ID", "jr_1", "--aws_region", REGION]
    return [*glues_own, *pairs, "--enable-metrics", "true"]


def test_settings_are_read_from_glue_command_line() -> None:
    """Arguments and job run id are found among Glue's own; Pipes is used only if Dagster asks for it."""
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
    """A manifest or report key of another model, or an expiry out of range, is refused."""
    with pytest.raises(JobArgumentsError, match=next(iter(change))):
        LoadSettings.read(command_line(replace(ARGUMENTS, **change)), {})


def test_missing_job_run_id_is_refused() -> None:
    """Without a job run id, which the claim needs, the script fails."""
    with pytest.raises(JobArgumentsError, match="JOB_RUN_ID"):
        LoadSettings.read(command_line()[4:], {})


def test_missing_region_is_refused() -> None:
    """The region must come from the job's definition or from the environment."""
    line = command_line()
    del line[4:6]
    with pytest.raises(JobArgumentsError, match="aws_region"):
        LoadSettings.read(line, {})
    assert LoadSettings.read(line, {"AWS_REGION": "us-west-1"}).region == "us-west-1"


class FakeSparkContext:
    """Runs each slice in a separate process, whose environment has no region."""

    defaultParallelism = 1  # noqa: N815  # Spark's name

    def parallelize(self, tasks: list[Any], _slices: int) -> FakeSparkContext:
        """Store the tasks."""
        self._tasks = tasks
        return self

    def mapPartitions(self, function: Any) -> FakeSparkContext:  # noqa: N802  # Spark's name
        """Store the partition function."""
        self._function = function
        return self

    def collect(self) -> list[Any]:
        """Send function and tasks to the executor, and return its results."""
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
    """Return the region of a client made by an engine's task."""
    return client(service).meta.region_name


@pytest.mark.parametrize(
    "engine", [SparkEngine(FakeSparkContext()), ProcessEngine(1)], ids=lambda each: each.name
)
def test_executors_use_the_region_of_the_job(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors without a region make clients for the job run's region."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    use_region(REGION)
    try:
        assert list(engine.run(region_of_client, ["s3", "dynamodb"])) == [REGION, REGION]
    finally:
        use_region(None)


def test_engines_return_results_in_order() -> None:
    """Sequential and process engines return the same results in the same order."""
    names = ["a", "b", "c", "d", "e"]
    assert list(SequentialEngine().run(ModelName, names)) == names
    assert list(ProcessEngine(2).run(ModelName, names)) == names


def test_error_of_a_process_keeps_type_and_remedy() -> None:
    """An error from another process keeps its class and its remedy."""
    with pytest.raises(InvalidNameError, match="'B' is not a model name") as raised:
        list(ProcessEngine(1).run(ModelName, ["a", "B"]))
    assert raised.value.remedy.startswith("Use a lower-case letter")


def test_killed_load_leaves_no_processes(tmp_path: Path) -> None:
    """The pool's processes end with the process that started them."""
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


def test_pool_is_used_only_for_several_parts() -> None:
    """A pool is used only with several parts and several processors."""
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
def test_spark_is_used_if_available(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    *,
    package: bool,
    has_spark: bool,
) -> None:
    """Spark is used on Glue, or where both Java and the package are installed."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings_module, "find_spec", lambda _name: object() if package else None)
    assert LoadSettings.read(command_line(), environment).has_spark is has_spark


def test_password_of_the_secret_is_used() -> None:
    """Only known settings of the secret are used, and the database is the job's argument."""
    secret = json.dumps(LOGIN | {"port": 1, "protocol": "http", "database": "OTHER", "insecure_mode": True})
    made = connection_arguments(secret, ARGUMENTS, "tag")
    assert made["password"] == "hidden-word"
    assert (made["database"], made["port"]) == ("D", 1)
    assert "insecure_mode" not in made
    expected = {"TIMEZONE": "UTC", "DATE_OUTPUT_FORMAT": "YYYY-MM-DD", "QUERY_TAG": "tag"}
    assert made["session_parameters"].items() >= expected.items()


def test_waits_for_snowflake_are_limited() -> None:
    """Requests, logins, locks and statements end within Glue's hour; a secret may shorten the network's."""
    made = connection_arguments(json.dumps(LOGIN), ARGUMENTS, "tag")
    parameters = made["session_parameters"]
    waits = [made["network_timeout"], made["login_timeout"], parameters["LOCK_TIMEOUT"]]
    assert all(0 < seconds < 3600 for seconds in [*waits, parameters["STATEMENT_TIMEOUT_IN_SECONDS"]])
    shorter = connection_arguments(json.dumps(LOGIN | {"network_timeout": 1}), ARGUMENTS, "tag")
    assert shorter["network_timeout"] == 1


@pytest.mark.parametrize("passphrase", [None, "phrase"])
def test_key_pair_of_the_secret_is_used(passphrase: str | None) -> None:
    """The PEM key is passed to the connector as decrypted DER, without a password."""
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
def test_invalid_secret_is_named_but_not_quoted(secret: str) -> None:
    """The error names the secret, and neither it nor its cause contains a value."""
    with pytest.raises(LoadFailedError, match="mlpipe-local-snowflake") as raised:
        connection_arguments(secret, ARGUMENTS, "tag")
    assert "hidden-word" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_long_step_reports_progress() -> None:
    """While a step runs, its rows are reported repeatedly, and its duration is kept."""
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


def test_heartbeat_reaches_dagster_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report may wait for the heartbeat and then for the upload of messages."""
    intervals: list[float] = []

    class Writer(PipesS3MessageWriter):
        def __init__(self, client: Any, *, interval: float) -> None:
            super().__init__(client, interval=interval)
            intervals.append(interval)

    s3 = MemoryS3()
    s3.put_object(Bucket="bucket", Key="context", Body=json.dumps(PIPES_CONTEXT).encode())
    context = encode_param({"bucket": "bucket", "key": "context"})
    messages = encode_param({"bucket": "bucket", "key_prefix": "messages"})
    pipes = ["--dagster-pipes-context", context, "--dagster-pipes-messages", messages]
    monkeypatch.setattr(sys, "argv", ["load", *pipes])
    monkeypatch.setattr(dagster_pipes, "PipesS3MessageWriter", Writer)
    with open_progress(LoadSettings(ARGUMENTS, "jr_1", 1, REGION, is_piped=True), s3) as progress:
        (interval,) = intervals
        assert progress._heartbeat_seconds + interval < 10


def test_progress_has_rows_rate_and_remaining_time() -> None:
    """Rows of an unfinished part count, and each step starts its own count."""
    heard: list[dict[str, Any]] = []
    progress = Progress(lambda _kind, values: heard.append(dict(values)), heartbeat_seconds=0.05)
    engine = SequentialEngine()
    progress.watch(engine.counter)
    for _ in range(2):  # the second step does not count the first one's rows
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


def test_rows_are_counted_across_processes() -> None:
    """Rows counted in the pool's processes are summed here, and each result is returned once."""
    engine = ProcessEngine(2)
    assert list(engine.run(count_rows, [7] * 20)) == [None] * 20
    assert engine.counter.value == 140


def test_progress_reaches_pipes_set_up_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Pipes set up by environment variables, reports arrive as custom messages."""
    messages = tmp_path / "messages"
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"data": PIPES_CONTEXT}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(messages)}))
    settings = LoadSettings(ARGUMENTS, "jr_1", 1, REGION, is_piped_by_environment=True)
    with open_progress(settings, None) as progress:
        progress.report("load_ended", {"status": "loaded"})
    sent = [json.loads(line) for line in messages.read_text().splitlines()]
    payloads = [one["params"]["payload"] for one in sent if one["method"] == "report_custom_message"]
    assert payloads == [{"kind": "load_ended", "status": "loaded"}]
