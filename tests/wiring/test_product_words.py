"""The product contains no words of the example, so other teams find nothing about flights in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    *("mlpipe", "mlpipe_dagster", "model_declaration", "prediction_batches", "prediction_contract"),
    *("api_lambda", "aws_wire", "glue_scripts", "infra", "sagemaker_scripts"),
)
# "In flight" can also mean work in progress.
WORDS = re.compile(
    r"(?<!in[ _-])flights?(?![a-z])|airport|airline|weather|nycflights|New.?York|\b(?:JFK|EWR|LGA)\b|taxi"
    r"|carrier|tailnum|congestion|dep_delay|arr_delay|departure",
    re.IGNORECASE,
)


def words_of(path: str) -> list[str]:
    """Return the example's words in a file and its path."""
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    return WORDS.findall(path) + WORDS.findall(text)


def test_product_contains_no_example_words() -> None:
    """Code, SQL, templates, messages and comments are free of the example's domain."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PRODUCT]
    files = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()
    assert len(files) > 300
    found = {path: words for path in files if (ROOT / path).is_file() and (words := words_of(path))}
    assert {path: words[:5] for path, words in found.items()} == {}
