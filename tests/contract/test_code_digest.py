"""Tests of the digest that identifies the code of the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prediction_contract.jobs.code_digest import code_version, deployed_digest, uploaded_digest
from prediction_contract.naming.resource_names import Deployment

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of three packages with one module each."""
    for package in ("sagemaker_scripts", "prediction_batches", "prediction_contract"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f'"""{package}."""\n')
    return tmp_path


def test_only_code_changes_the_digest(checkout: Path) -> None:
    """Byte code and editor files do not change the digest; changes to a job or the contract do."""
    first = deployed_digest("sagemaker_scripts", checkout, {})
    (checkout / "sagemaker_scripts" / "__pycache__").mkdir()
    (checkout / "sagemaker_scripts" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (checkout / "sagemaker_scripts" / ".predict.py.swp").write_bytes(b"x")
    assert deployed_digest("sagemaker_scripts", checkout, {}) == first
    (checkout / "prediction_contract" / "row.py").write_text("ROWS = 1\n")
    second = deployed_digest("sagemaker_scripts", checkout, {})
    (checkout / "sagemaker_scripts" / "predict.py").write_text("ROWS = 1\n")
    assert len({first, second, deployed_digest("sagemaker_scripts", checkout, {})}) == 3


def test_digest_covers_only_imported_packages(checkout: Path) -> None:
    """A change to the load's wire code changes the load's digest, but not that of SageMaker jobs."""
    for package in ("glue_scripts", "aws_wire"):
        (checkout / package).mkdir()
        (checkout / package / "__init__.py").write_text(f'"""{package}."""\n')
    load, scoring = (deployed_digest(each, checkout, {}) for each in ("glue_scripts", "sagemaker_scripts"))
    (checkout / "aws_wire" / "signer.py").write_text("SIGNED = 1\n")
    assert deployed_digest("glue_scripts", checkout, {}) != load
    assert deployed_digest("sagemaker_scripts", checkout, {}) == scoring


def test_folder_without_job_code_has_no_digest(checkout: Path) -> None:
    """A folder without the job's code, as in Dagster's image, yields no digest."""
    assert deployed_digest("glue_scripts", checkout, {}) is None


def test_digest_is_read_from_keys_of_uploaded_code() -> None:
    """Keys and addresses of uploaded code yield its digest, and other keys yield none."""
    names = Deployment("local", "000000000000", "us-east-1")
    keys = [
        names.code_tree_prefix("sagemaker_scripts", DIGEST),
        names.code_archive_key("glue_scripts", DIGEST),
        names.training_code_key(DIGEST),
    ]
    for key in keys:
        assert uploaded_digest(key) == uploaded_digest(f"s3://bucket/{key}") == DIGEST
    for key in ("", "code/sagemaker_scripts/gated/", f"assets/{DIGEST}.zip", names.load_script_key):
        assert uploaded_digest(key) is None
    assert code_version(DIGEST) == "0123456789abcdef"
