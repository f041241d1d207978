"""The digest that names the jobs' code: the same for the same files, and found again in a key."""

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
    """A checkout of two packages with one module each."""
    for package in ("sagemaker_scripts", "prediction_batches", "prediction_contract"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f'"""{package}."""\n')
    return tmp_path


def test_only_an_edit_changes_the_digest(checkout: Path) -> None:
    """Byte code and editors' files do not count; one byte of a job's or the contract's code does."""
    first = deployed_digest("sagemaker_scripts", checkout, {})
    (checkout / "sagemaker_scripts" / "__pycache__").mkdir()
    (checkout / "sagemaker_scripts" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (checkout / "sagemaker_scripts" / ".predict.py.swp").write_bytes(b"x")
    assert deployed_digest("sagemaker_scripts", checkout, {}) == first
    (checkout / "prediction_contract" / "row.py").write_text("ROWS = 1\n")
    second = deployed_digest("sagemaker_scripts", checkout, {})
    (checkout / "sagemaker_scripts" / "predict.py").write_text("ROWS = 1\n")
    assert len({first, second, deployed_digest("sagemaker_scripts", checkout, {})}) == 3


def test_a_package_counts_for_the_jobs_that_import_it(checkout: Path) -> None:
    """The load's wire code is part of its digest, and of no SageMaker job's."""
    for package in ("glue_scripts", "aws_wire"):
        (checkout / package).mkdir()
        (checkout / package / "__init__.py").write_text(f'"""{package}."""\n')
    load, scoring = (deployed_digest(each, checkout, {}) for each in ("glue_scripts", "sagemaker_scripts"))
    (checkout / "aws_wire" / "signer.py").write_text("SIGNED = 1\n")
    assert deployed_digest("glue_scripts", checkout, {}) != load
    assert deployed_digest("sagemaker_scripts", checkout, {}) == scoring


def test_an_image_without_the_jobs_code_has_no_digest(checkout: Path) -> None:
    """Dagster's image holds the contract and no code of jobs."""
    assert deployed_digest("glue_scripts", checkout, {}) is None


def test_every_key_of_uploaded_code_holds_its_digest() -> None:
    """Trees, archives and addresses of both; code that is named otherwise has none."""
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
