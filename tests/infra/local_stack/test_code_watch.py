"""`make dev` tells of an edit to the jobs' code once, and of taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local.dev import CodeWatch
from infra.packaging import build_sagemaker_code
from prediction_contract.jobs.code_digest import code_version
from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from pathlib import Path


def test_an_edit_is_told_once_with_both_versions(checkout: Path, tmp_path: Path) -> None:
    """The line names the uploaded version and the checkout's, and what to do."""
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


def test_code_that_is_not_named_by_its_digest_is_not_compared() -> None:
    """Somebody has set a prefix of their own."""
    assert CodeWatch("code/mine/", EXAMPLE).describe_edit() == ""
