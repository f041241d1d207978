"""Test that a failed function is reported with the project's own lines."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from sagemaker_scripts.try_model import project_lines

if TYPE_CHECKING:
    from pathlib import Path

_MODULE = """
def features(partition):
    return helper({})


def helper(row):
    return row["missing"]
"""


def fail_as_a_job_does(module: Any) -> None:
    """Raise a platform error caused by the function's error."""
    try:
        module.features("2013-02-01")
    except KeyError as error:
        raise RuntimeError("the job failed") from error


def test_project_lines_lead_to_the_error(tmp_path: Path) -> None:
    """Only frames of the project's files are listed, also those of an error's cause."""
    path = tmp_path / "acme" / "features.py"
    path.parent.mkdir()
    path.write_text(_MODULE)
    spec = importlib.util.spec_from_file_location("acme_features", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(RuntimeError) as caught:
        fail_as_a_job_does(module)
    assert project_lines(caught.value, tmp_path) == [
        "acme/features.py:3 in features: return helper({})",
        'acme/features.py:7 in helper: return row["missing"]',
    ]
    assert project_lines(caught.value, tmp_path / "elsewhere") == []
