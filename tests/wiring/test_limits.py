"""The limits page cites only existing tests, and the product uses every limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prediction_contract import limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text()
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_cited_test_exists() -> None:
    """Every cited file is a test file, and every cited name is a test function."""
    known = {path.name for path in TESTS}
    for text in TESTS.values():
        known.update(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))
    cited = set(re.findall(r"`(test_[\w.]+)`", PAGE))
    assert cited
    assert not cited - known


@pytest.fixture(scope="module")
def product_texts() -> list[str]:
    """The source of all product modules except `limits.py`."""
    folders = (
        "prediction_contract",
        "prediction_batches",
        "model_declaration",
        "glue_scripts",
        "sagemaker_scripts",
        "api_lambda",
        "mlpipe_dagster",
        "infra",
    )
    return [
        path.read_text()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "limits.py"
    ]


@pytest.mark.parametrize("name", [name for name in vars(limits) if name.isupper()])
def test_every_limit_is_used(name: str, product_texts: list[str]) -> None:
    """A limit that only tests use would not be enforced."""
    assert any(name in text for text in product_texts)
