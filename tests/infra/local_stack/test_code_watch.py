"""`mlpipe dev` warns once when the jobs' code is edited, and once when the edit is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local.dev import CodeWatch
from infra.packaging import build_sagemaker_code
from prediction_contract.jobs.code_digest import code_version
from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from pathlib import Path


def test_edited_code_is_reported_once_with_both_versions(checkout: Path, tmp_path: Path) -> None:
    """The message names the uploaded version, the edited version and the command to run."""
    project = new_project(tmp_path / "project")
    uploaded = build_sagemaker_code(project, tmp_path / "out").digest
    watch = CodeWatch(f"code/sagemaker_scripts/{uploaded}/", project)
    assert watch.describe_edit() == ""
    edited = checkout / "sagemaker_scripts" / "work.py"
    before = edited.read_text()
    edited.write_text("# edited\n")
    present = build_sagemaker_code(project, tmp_path / "out").digest
    message = watch.describe_edit()
    assert code_version(uploaded) in message
    assert code_version(present) in message
    assert "mlpipe dev" in message
    assert watch.describe_edit() == ""
    edited.write_text(before)
    assert "again" in watch.describe_edit()


def test_code_prefix_without_digest_is_not_compared() -> None:
    """A custom code prefix carries no digest, so no edit is reported."""
    assert CodeWatch("code/mine/", EXAMPLE).describe_edit() == ""
