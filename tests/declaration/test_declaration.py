"""Tests of a declaration's fields, their defaults and the errors for wrong ones."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_of
from model_declaration.declared_models import UndeclaredModelError
from tests.dagster.small_model import declaration
from tests.projects import EXAMPLE

TRAINING = {"first_partition": "2013-01-01", "last_partition": "2013-01-31"}
ENRICHMENT = {"name": "weather", "provider": "weather", "path": "/x?at={entity_id}", "fields": ["wind"]}
METRIC = {"kind": "mae", "predicted": "score", "actual": "real_score"}
EVALUATED = {"first_evaluated": "2013-02-01", "last_evaluated": "2013-02-26", "metrics": [METRIC]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"partitions": {"start": "2013-02-30"}}, "partitions.start"),
        ({"columns": [{"name": "Score", "type": "long", "key": True}]}, "Score"),
        ({"columns": [{"name": "score", "type": "number"}]}, "number"),
        ({"columns": [{"name": "score", "type": "long"}]}, "key column"),
        ({"quality": {"quarantine_rate": "1.5"}}, "quality.quarantine_rate"),
        ({"quality": {"verify": "never"}}, "quality.verify"),
        ({"loading": {"max_write_units_per_second": 0}}, "loading.max_write_units_per_second"),
        ({"loading": {"wait_minutes": 31}}, "loading.wait_minutes"),
        ({"retention": {"items_days": 0}}, "retention.items_days"),
        ({"lookback": -1}, "lookback"),
        ({"lookback": 367}, "lookback"),
        ({"scoring": {"chunk_rows": 99}}, "scoring.chunk_rows"),
        ({"scoring": {"chunk_rows": 1_000_001}}, "scoring.chunk_rows"),
        ({"processing": {"instances": 0}}, "processing.instances"),
        ({"processing": {"instances": 21}}, "processing.instances"),
        ({"training_compute": {"instances": 1}}, "training_compute.instances"),
        ({"history_days": 7}, "history_days"),
        ({"training": TRAINING | {"last_evaluated": "2013-02-26"}}, "first_evaluated"),
        ({"training": TRAINING | EVALUATED | {"first_evaluated": "2013-01-31"}}, "first_evaluated"),
        ({"training": TRAINING | EVALUATED | {"metrics": []}}, "metrics"),
        ({"training": TRAINING | EVALUATED | {"metrics": [METRIC | {"kind": "gain"}]}}, "kind"),
        ({"training": TRAINING | EVALUATED | {"metrics": [METRIC | {"predicted": "tide"}]}}, "tide"),
        ({"tunings": 3}, "tunings"),
        ({"retention": {"items_days": 2, "minimum_life_hours": 48}}, "retention.minimum_life_hours"),
        ({"enrichments": [ENRICHMENT | {"timeout_milliseconds": 5001}]}, "enrichments.0"),
        ({"enrichments": [ENRICHMENT | {"path": f"/{'x' * 1800}"}]}, "enrichments.0"),
        ({"enrichments": [ENRICHMENT | {"path": "/x?at={tide}"}]}, "uses tide, which is not a column"),
        ({"enrichments": [ENRICHMENT, ENRICHMENT]}, "at most 8 enrichments, with unique names"),
    ],
)
def test_invalid_field_is_named(changes: dict[str, Any], named: str) -> None:
    """Each invalid field is refused with its name in the message."""
    with pytest.raises(ValidationError) as caught:
        declaration("things", **changes)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "rows", "verify"),
    [(None, 50_000, "full"), (None, 50_001, "sample"), ("full", 50_001, "full"), ("scan", 1, "scan")],
)
def test_verification_defaults_depend_on_batch_size(declared: str | None, rows: int, verify: str) -> None:
    """Up to 50,000 rows are all read back, more are sampled, unless the model declares otherwise."""
    assert declaration("things", quality={"verify": declared}).quality.verification(rows) == verify


def test_unquoted_date_is_accepted() -> None:
    """YAML reads an unquoted 2013-01-05 as a date; the declaration accepts it as that day."""
    declared = declaration("things", partitions={"start": date(2013, 1, 5)})
    assert declared.partitions.start == "2013-01-05"


@pytest.mark.parametrize("name", ["flight_delay", "airport_congestion"])
def test_example_models_can_be_read_without_component(name: str) -> None:
    """The command line can read the example's declarations without Dagster's component."""
    assert declaration_of(name, EXAMPLE.defs).prediction_schema.key == "entity_id"


def test_undeclared_model_error_lists_declared_models() -> None:
    """The error for an undeclared model lists the declared ones."""
    with pytest.raises(UndeclaredModelError, match="flight_delay"):
        declaration_of("tides", EXAMPLE.defs)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("attributes: {description: 1}", "things/defs.yaml is not one plain model"),
        (f"type: {COMPONENT}\nattributes: {{description: 1}}", "things/defs.yaml:2 attributes.description: "),
    ],
)
def test_invalid_declaration_error_names_file(tmp_path: Path, text: str, told: str) -> None:
    """A file that is not a declaration is refused with its path, an invalid field also with its line."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "defs.yaml").write_text(text)
    with pytest.raises(DeclarationError, match=re.escape(told)):
        declaration_of("things", tmp_path)
