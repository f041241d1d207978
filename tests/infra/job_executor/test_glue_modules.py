"""What the executor lets a Glue job install: pinned and hashed wheels that come with it."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest

from infra.local.job_executor.glue.glue_modules import (
    MODULES,
    OPTION,
    REQUIREMENTS,
    check_installer,
    check_zip_of_wheels,
)
from infra.local.job_executor.jobs.job_records import JobExecutionError

if TYPE_CHECKING:
    from pathlib import Path

ZIP = "s3://bucket/code/a.gluewheels.zip"
WHEEL = "wheels/some_thing-1.0-py3-none-any.whl"
PINNED = f"some-thing==1.0 --hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}\n"


def test_a_zip_of_wheels_without_an_index_is_taken() -> None:
    """As is a job that installs nothing."""
    assert check_installer({MODULES: ZIP, OPTION: "--no-index"}) == ZIP
    assert check_installer({}) == ""


@pytest.mark.parametrize(
    ("modules", "option", "message"),
    [
        ("deltalake", "--no-index", "deltalake"),
        ("deltalake==1.6.6", "--no-index", "deltalake==1.6.6"),
        (f"{ZIP},pandas==2", "--no-index", "pandas==2"),
        ("s3://bucket/requirements.txt", "-r", "requirements.txt"),
        (ZIP, None, "None"),
        (ZIP, "--no-index --extra-index-url file:///x", "extra-index"),
    ],
)
def test_whatever_may_come_from_an_index_is_refused(modules: str, option: str | None, message: str) -> None:
    """An index offers something else at each start."""
    arguments = {MODULES: modules} | ({OPTION: option} if option else {})
    with pytest.raises(JobExecutionError, match=message):
        check_installer(arguments)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({REQUIREMENTS: PINNED, WHEEL: b"wheel"}, None),
        ({WHEEL: b"wheel"}, "no wheels/requirements.txt"),
        ({REQUIREMENTS: "some-thing==1.0\n", WHEEL: b"wheel"}, "not pinned with a hash"),
        ({REQUIREMENTS: PINNED, WHEEL: b"other bytes"}, "some-thing 1.0"),
        ({REQUIREMENTS: PINNED}, "some-thing 1.0"),
        ({REQUIREMENTS: PINNED, WHEEL: b"wheel", "wheels/other-2.0-py3-none-any.whl": b""}, "other 2.0"),
        ({REQUIREMENTS: PINNED, WHEEL.replace(".whl", ".tar.gz"): b"wheel"}, "some-thing"),
    ],
)
def test_wheels_are_those_of_the_requirements(
    files: dict[str, str | bytes], message: str | None, tmp_path: Path
) -> None:
    """One for each, with its hash, and no other file."""
    path = tmp_path / "a.gluewheels.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if message is None:
        check_zip_of_wheels(path)
    else:
        with pytest.raises(JobExecutionError, match=message):
            check_zip_of_wheels(path)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    """By its name."""
    path = tmp_path / "a.gluewheels.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(JobExecutionError, match=r"a\.gluewheels\.zip"):
        check_zip_of_wheels(path)
