"""Quality rules are applied to batches in the Snowflake stand-in and compared with the live batch."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.loading.tables_asset import tables_asset
from mlpipe_dagster.pipeline.asset_names import selected_batch_tag
from mlpipe_dagster.quality.quality_checks import quality_checks
from mlpipe_dagster.resources.job_resources import GlueJobs
from tests.dagster.loaded_model import COLUMNS, LoadedModel, rows
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.small_model import declaration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpipe_dagster.resources.platform import Platform

pytestmark = pytest.mark.stack
Found = dict[str, dg.AssetCheckEvaluation]


@pytest.fixture
def model_with(platform: Platform) -> Callable[..., LoadedModel]:
    """Return a function that makes a model with the given quality rules."""

    def make(**quality: Any) -> LoadedModel:
        name = f"m{uuid.uuid4().hex[:12]}"
        return LoadedModel(platform, declaration(name, columns=COLUMNS, quality=quality))

    return make


def checked(model: LoadedModel, batch_id: str) -> Found:
    """Run the quality checks of a batch, and return the evaluations by name."""
    definitions = dg.Definitions(
        assets=[tables_asset(model.declaration, model.partitions)],
        asset_checks=[quality_checks(model.declaration)],
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.all_asset_checks())],
        resources={
            "platform": model.platform,
            "warehouse": model.warehouse,
            "glue_jobs": GlueJobs(platform=model.platform),
        },
    )
    result = definitions.resolve_job_def("check").execute_in_process(
        tags={selected_batch_tag(model.name): batch_id}, raise_on_error=False
    )
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def live_batch(model: LoadedModel, content: list[Any]) -> str:
    """Publish a batch with these rows."""
    batch_id = model.loaded_batch(content, partition="2013-01-31")
    publisher(model).publish(batch_id, request(), "{}")
    return batch_id


def test_batch_within_its_rules_passes(model_with: Callable[..., LoadedModel]) -> None:
    """Without a live batch only the rules for columns apply."""
    model = model_with(
        columns=[{"column": "score", "minimum": 0, "maximum": 99, "null_rate": 0.1}], rows={}, coverage={}
    )
    batch_id = model.loaded_batch(rows(range(100)))
    found = checked(model, batch_id)
    assert {name: each.passed for name, each in found.items()} == {
        "quality": True,
        "against_live": True,
        "drift": True,
    }
    assert "compared_with" not in found["drift"].metadata
    assert (model.record(batch_id).checked_attempt, model.record(batch_id).check_faults) == (1, None)


@pytest.mark.parametrize(
    ("rule", "bad", "words"),
    [
        (
            {"maximum": "98.5"},
            ("E0", 98.51, True, 1.0),
            "outside the range from -infinity to 98.5 in 2 of 101 rows",
        ),
        ({"minimum": 0}, ("E0", -0.01, True, 1.0), "outside the range from 0 to infinity in 1 of 101 rows"),
        ({"null_rate": 0}, ("E0", None, True, 1.0), "is null in 1 of 101 rows"),
        ({"unique": True}, ("E0", 5, True, 1.0), "100 different values in 101 rows"),
    ],
)
def test_broken_rule_blocks_and_is_recorded(
    model_with: Callable[..., LoadedModel], rule: dict[str, Any], bad: Any, words: str
) -> None:
    """The check fails as an error, and the registry keeps the reason."""
    model = model_with(columns=[{"column": "score", **rule}])
    batch_id = model.loaded_batch([*rows(range(100)), bad])
    found = checked(model, batch_id)["quality"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert words in str(found.description)
    assert words in str(model.record(batch_id).check_faults)


def test_rows_and_entities_are_compared_with_live_batch(model_with: Callable[..., LoadedModel]) -> None:
    """Too few rows block; missing entities warn, or block below the lower threshold."""
    model = model_with(rows={"at_least": 0.5}, coverage={"warn": 0.9, "block": 0.3}, drift={"warn": None})
    live = live_batch(model, rows(range(100)))
    cases = {
        "as before": (rows(range(5, 105)), True, ""),
        "other entities": (rows(range(60, 160)), False, "a share of 0.40"),
        "hardly any": (rows(range(90, 190)), False, "a share of 0.10"),
        "few rows": (rows(range(40)), False, "0.40 times the live batch's 100"),
    }
    found = {case: checked(model, model.loaded_batch(content)) for case, (content, _, _) in cases.items()}
    told = {case: each["against_live"] for case, each in found.items()}
    for case, (_, passes, words) in cases.items():
        assert told[case].passed is passes, case
        assert words in str(told[case].description), case
    assert told["other entities"].severity == dg.AssetCheckSeverity.WARN
    assert told["hardly any"].severity == dg.AssetCheckSeverity.ERROR
    assert told["few rows"].metadata["compared_with"].value == live


def test_drift_warns_or_blocks_per_column(model_with: Callable[..., LoadedModel]) -> None:
    """A shifted score warns, a changed boolean blocks, and unchanged values pass."""
    model = model_with(drift={"warn": 0.25, "columns": [{"column": "likely", "block": 1.0}]})
    live_batch(model, rows(range(400)))
    same = checked(model, model.loaded_batch(rows(range(400), prefix="F")))["drift"]
    shifted = checked(model, model.loaded_batch(rows(range(400), shift=50)))["drift"]
    turned_content = [(key, score, True, income) for key, score, _, income in rows(range(400))]
    turned_batch = model.loaded_batch(turned_content)
    turned = checked(model, turned_batch)["drift"]
    assert same.passed
    assert (shifted.passed, shifted.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "score" in str(shifted.description)
    assert (turned.passed, turned.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "likely" in str(model.record(turned_batch).check_faults)


def test_drift_only_warns_for_another_model_version(model_with: Callable[..., LoadedModel]) -> None:
    """Compared with a live batch of its own version the same shift blocks."""
    model = model_with(drift={"block": 1.0})
    live_batch(model, rows(range(400)))
    shifted = rows(range(400), shift=50)
    batch_id = model.loaded_batch(shifted, model_version="v2")
    found = checked(model, batch_id)["drift"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Another model version scored the live batch" in str(found.description)
    facts = {name: found.metadata[name].value for name in ("model_version", "live_model_version")}
    assert facts == {"model_version": "v2", "live_model_version": "v1"}
    assert model.record(batch_id).check_faults is None
    own = model.loaded_batch(shifted)
    assert checked(model, own)["drift"].severity == dg.AssetCheckSeverity.ERROR
    assert "score" in str(model.record(own).check_faults)


def test_few_rows_are_not_judged_for_drift(model_with: Callable[..., LoadedModel]) -> None:
    """A small batch differs by chance, so it passes."""
    model = model_with()
    live_batch(model, rows(range(20)))
    found = checked(model, model.loaded_batch(rows(range(20), shift=500)))["drift"]
    assert found.passed
    assert "drift" not in found.metadata


def test_distributions_omit_sensitive_columns(model_with: Callable[..., LoadedModel]) -> None:
    """Only the drift index of a sensitive column is shown."""
    model = model_with()
    live = live_batch(model, rows(range(100)))
    metadata = checked(model, model.loaded_batch(rows(range(100), shift=10)))["drift"].metadata
    assert {name for name in metadata if name.startswith("distribution_")} == {
        "distribution_score",
        "distribution_likely",
    }
    picture = str(metadata["distribution_score"].value)
    svg = base64.b64decode(picture.partition("base64,")[2].rstrip(")")).decode()
    assert f"live {live}" in svg
    assert svg.count("<rect") == 40
    assert "| `income` | `0.000` |" in str(metadata["drift"].value)
    assert "1000.5" not in str(metadata)
