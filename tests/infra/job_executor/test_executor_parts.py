"""Tests of executor parts that need no stack: validation, error messages, pages, damaged state, hosts."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import botocore.session
import psutil
import pytest
from botocore.exceptions import NoCredentialsError

from infra.local.job_executor.glue.glue_job import error_message, log_group_prefix
from infra.local.job_executor.job_api import page
from infra.local.job_executor.jobs.host_processes import HostProcesses, cpu_share
from infra.local.job_executor.jobs.job_records import HostWorkspace, JobExecutionError
from infra.local.job_executor.jobs.job_store import RecordStore, StateCorruptError
from infra.local.job_executor.jobs.s3_transfer import S3Location, S3Transfer, inside
from infra.local.job_executor.json_protocol import ApiError, JsonProtocol
from infra.local.job_executor.model_validation import violations
from infra.local.job_executor.sagemaker.container import host_names
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "answer",
    [
        {"JobRun": {"JobRunState": "SLEEPING"}},
        {"JobRun": {"Attempt": "one"}},
        {"JobRun": {"Timeout": 0}},
        {"JobRun": {"Surprise": 1}},
        {"Surprise": 1},
    ],
)
def test_answer_violating_service_model_is_internal_failure(answer: dict[str, Any]) -> None:
    """An answer that violates the service model raises a 500 error instead of being sent."""
    protocol = JsonProtocol("glue")
    with pytest.raises(ApiError, match="violates the service model") as refused:
        protocol.serialize(protocol.operation("GetJobRun"), answer)
    assert refused.value.status == 500


def test_glue_name_pattern_with_surrogates_is_checked() -> None:
    """Emoji are accepted and control characters refused, although Python cannot compile Glue's pattern."""
    protocol = JsonProtocol("glue")
    operation = protocol.operation("GetJob")
    assert protocol.parse(operation, '{"JobName": "prüfung 😀"}'.encode()) == {"JobName": "prüfung 😀"}
    with pytest.raises(ApiError, match="regular expression"):
        protocol.parse(operation, b'{"JobName": "bell\\u0007"}')


@pytest.mark.parametrize("service", ["glue", "sagemaker"])
def test_every_pattern_can_be_checked(service: str) -> None:
    """Every pattern of the service models can be checked, even if Python cannot compile it as written."""
    model: Any = botocore.session.get_session().get_service_model(service)
    shapes = [model.shape_for(name) for name in model.shape_names]
    patterned = [shape for shape in shapes if shape.metadata.get("pattern")]
    assert patterned
    for shape in patterned:
        violations(shape, "x" * max(1, shape.metadata.get("min", 1)))


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [("0f:9=a/b+c-d@e_f.g Größe 数", True), ("a,b", False), ('"', False), ("50 %", False), ("a\nb", False)],
)
def test_unicode_classes_in_patterns_are_checked(value: str, is_taken: bool) -> None:
    """Patterns of tags and metadata use Unicode classes, which `re` lacks, and are still checked."""
    model: Any = botocore.session.get_session().get_service_model("sagemaker")
    for name in ("TagValue", "CustomerMetadataValue"):
        assert (violations(model.shape_for(name), value) == []) == is_taken


@pytest.mark.parametrize(
    ("stderr", "code", "message"),
    [
        ("Traceback (most recent call last):\n  File\nKeyError: 'x'\n", 1, "KeyError: 'x'"),
        (
            (
                "Traceback (most recent call last):\n  a\nKeyError: 1\n\nDuring handling:\n\n"
                "Traceback (most recent call last):\n  b\nValueError: two\nlines\n"
            ),
            1,
            "ValueError: two\nlines",
        ),
        ("warning: x\nno such batch\n", 1, "no such batch"),
        ("", 4, "SystemExit: 4"),
        ("", -9, "The job's process was killed by signal 9."),
        ("", None, "The job's process was killed from outside without an exit code."),
    ],
)
def test_error_message_is_the_last_exception(stderr: str, code: int | None, message: str) -> None:
    """The message is the last exception, else the last line, else the exit code or signal."""
    assert error_message(stderr.encode(), code) == message


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [({}, "/aws-glue/jobs"), ({"--custom-logGroup-prefix": "/mlpipe/local/load"}, "/mlpipe/local/load")],
)
def test_log_group_prefix_comes_from_job_arguments(arguments: dict[str, str], prefix: str) -> None:
    """A job logs to the groups of its `--custom-logGroup-prefix`, or else to Glue's default groups."""
    record = {"default_arguments": arguments, "arguments": {}, "fixed_arguments": {}}
    assert log_group_prefix(record) == prefix


def test_pages_survive_records_added_in_front() -> None:
    """A token continues after its record even if new records precede it, and a foreign token is refused."""
    names = ["a", "b", "c"]
    first, token = page(names, token=None, size=2)
    assert [names[position] for position in first] == ["a", "b"]
    grown = ["new", *names]
    rest, end = page(grown, token=token, size=2)
    assert ([grown[position] for position in rest], end) == (["c"], None)
    for foreign in ("%%%", "Zm9yZWlnbg=="):
        with pytest.raises(ValueError, match="the token is"):
            page(names, token=foreign, size=2)


def test_malformed_record_is_damaged_state(tmp_path: Path) -> None:
    """A store with a record that is not JSON is refused when it is opened."""
    store = RecordStore(tmp_path)
    assert store.insert("glue_job", "a", {"Name": "a"})
    assert not store.insert("glue_job", "a", {"Name": "b"})
    store.close()
    with sqlite3.connect(tmp_path / "executor.sqlite3") as database:
        database.execute("UPDATE records SET body = '{'")
    with pytest.raises(StateCorruptError, match="move it"):
        RecordStore(tmp_path)


def test_emptied_state_is_damaged(tmp_path: Path) -> None:
    """An empty file, one without its table, or a -wal file alone is reported and left as it is."""
    file = tmp_path / "executor.sqlite3"
    store = RecordStore(tmp_path)
    store.insert("job", "one", {})
    store.close()
    file.write_bytes(b"")
    with pytest.raises(StateCorruptError, match="is damaged"):
        RecordStore(tmp_path)
    assert file.read_bytes() == b""
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE other (name TEXT)")
    without_table = file.read_bytes()
    with pytest.raises(StateCorruptError, match="no such table: records"):
        RecordStore(tmp_path)
    assert file.read_bytes() == without_table
    file.unlink()
    log = tmp_path / "executor.sqlite3-wal"
    log.write_bytes(b"records")
    with pytest.raises(StateCorruptError, match="its -wal file exists"):
        RecordStore(tmp_path)
    assert log.read_bytes() == b"records"
    log.unlink()
    assert RecordStore(tmp_path).all("job") == []


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/passwd", "", "."])
def test_path_cannot_leave_its_directory(tmp_path: Path, relative: str) -> None:
    """A path from an S3 key that is absolute, empty or climbs with `..` is refused."""
    with pytest.raises(JobExecutionError, match="outside its directory"):
        inside(tmp_path / "data", relative)


class FakeBucket:
    """A fake S3 client that lists the given keys."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def get_paginator(self, _operation: str) -> FakeBucket:
        """Return the paginator, which is this object."""
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803 - AWS's names
        """Return one page of the keys with a prefix."""
        assert Bucket == "b"
        return [{"Contents": [{"Key": key} for key in self._keys if key.startswith(Prefix)]}]


@pytest.mark.parametrize(
    ("prefix", "paths"),
    [
        ("in/", ["x/1", "y"]),
        ("in", ["x/1", "y", "inner/z"]),
        ("in/y", ["y"]),
        ("in/x", ["1"]),
    ],
)
def test_prefix_is_laid_out_as_on_sagemaker(prefix: str, paths: list[str]) -> None:
    """Paths are relative to the prefix if it is a folder, and otherwise to its last whole folder."""
    bucket = FakeBucket("in/", "in/x/1", "in/y", "inner/z")
    found = S3Transfer(bucket).keys(f"s3://b/{prefix}", "S3Prefix")
    assert [relative for _, relative in found] == paths
    assert all(isinstance(location, S3Location) for location, _ in found)


@pytest.mark.parametrize("hosts", [1, 2, 3, 20])
def test_hosts_share_all_cores(hosts: int) -> None:
    """Every core is used, every host gets one, and hosts share a core only if there are too few."""
    cores = os.sched_getaffinity(0)
    shares = [cpu_share(number, hosts) for number in range(1, hosts + 1)]
    if hosts == 1:
        assert shares == [None]
        return
    given = [core for share in shares for core in share or ()]
    assert all(shares)
    assert set(given) == cores
    assert len(given) == max(len(cores), hosts)


def test_host_names_are_sorted_as_text(tmp_path: Path) -> None:
    """Host names are sorted as text, as on SageMaker, so algo-10 comes second."""
    hosts = [HostWorkspace(tmp_path, number, private_mounts=False) for number in range(1, 12)]
    assert host_names(hosts)[:4] == ["algo-1", "algo-10", "algo-11", "algo-2"]


def test_partly_started_job_leaves_no_process(tmp_path: Path) -> None:
    """If the second host gets no credentials, the process of the first host is ended too."""
    hosts = [HostWorkspace(tmp_path / f"host-{number}", number, private_mounts=False) for number in (1, 2)]
    for host in hosts:
        host.reset()
        spec = {
            "argv": ["sleep", "300"],
            "directory": str(host.work),
            "stdout": str(host.stdout),
            "stderr": str(host.stderr),
            "environment": {},
            "mount": None,
            "grace_seconds": 5,
            "delay_seconds": 0,
            "cpus": None,
        }
        (host.home / "spec.json").write_text(json.dumps(spec))

    def environment(host: HostWorkspace) -> dict[str, str]:
        if host.number == 1:
            return {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
        wait_until((hosts[0].home / "started.json").exists, seconds=60, what="the first host has started")
        raise NoCredentialsError

    with pytest.raises(JobExecutionError, match="did not start: Unable to locate credentials"):
        HostProcesses(hosts).launch(environment)

    def marked() -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter()
            if process.is_running() and _environment(process).get("TMPDIR") == str(tmp_path)
        ]

    wait_until(lambda: not marked(), seconds=60, what="no process is left")


def _environment(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment, or nothing if it ended or belongs to another user."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
