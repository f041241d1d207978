"""Tests of what a Glue job may install: only pinned and hashed wheels from its zip file."""

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


def test_wheels_zip_without_index_is_accepted() -> None:
    """A zip of wheels with `--no-index` is accepted, and so is a job that installs nothing."""
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
def test_packages_from_an_index_are_refused(modules: str, option: str | None, message: str) -> None:
    """Packages from an index are refused, because an index may offer other files at each start."""
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
def test_wheels_must_match_requirements(
    files: dict[str, str | bytes], message: str | None, tmp_path: Path
) -> None:
    """The zip must hold exactly one wheel with the right hash for each pinned requirement."""
    path = tmp_path / "a.gluewheels.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if message is None:
        check_zip_of_wheels(path)
    else:
        with pytest.raises(JobExecutionError, match=message):
            check_zip_of_wheels(path)


def test_malformed_zip_is_refused(tmp_path: Path) -> None:
    """A file that is not a zip archive is refused with its name."""
    path = tmp_path / "a.gluewheels.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(JobExecutionError, match=r"a\.gluewheels\.zip"):
        check_zip_of_wheels(path)
