"""The JSON schema that `dg check yaml` uses: its errors name the field and the bound."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from mlpipe_dagster.components.prediction_pipeline import PredictionPipeline
from tests.dagster.small_model import attributes

MODEL = PredictionPipeline.get_model_cls()
assert MODEL is not None
JUDGE = jsonschema.Draft202012Validator(MODEL.model_json_schema())

FILES = {"format": "parquet", "path": "raw/orders/dt={date}/*.parquet"}
MODEL_FILE = {"path": "trained/churn.ubj", "sha256": "ab" * 32, "codec": "xgboost"}


def schema_errors(**changes: Any) -> list[tuple[str, str]]:
    """Return path and message of each error in a changed declaration."""
    found = JUDGE.iter_errors(attributes(**changes))
    return [(".".join(map(str, each.absolute_path)), each.message) for each in found]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"lookback": -1}, "lookback", "-1 is less than the minimum of 0"),
        ({"lookback": 400}, "lookback", "400 is greater than the maximum of 366"),
        ({"retention": {"items_days": 1}}, "retention.items_days", "1 is less than the minimum of 2"),
        (
            {"quality": {"coverage": {"warn": 2}}},
            "quality.coverage.warn",
            "2 is greater than the maximum of 1",
        ),
        ({"partitions": {"start": "May"}}, "partitions.start", "'May' does not match"),
        ({"loading": {"speed": 1}}, "loading", "'speed' was unexpected"),
        ({"sources": {"orders": {**FILES, "history": -1}}}, "sources.orders.history", "-1 is less than the"),
        ({"sources": {"orders": {**FILES, "query": "select 1"}}}, "sources.orders", "'query' is not one of"),
        ({"sources": {"orders": {"format": "delta"}}}, "sources.orders", "'path' is a required property"),
        (
            {"sources": {"orders": {"path": "raw/orders"}}},
            "sources.orders",
            "'reader' is a required property",
        ),
        ({"sources": {"orders": {**FILES, "asset": "/"}}}, "sources.orders.asset", "'/' does not match"),
        ({"features": {"from": "orders"}}, "features", "'key' is a required property"),
        ({"model": {**MODEL_FILE, "sha256": "0"}}, "model.sha256", "'0' does not match"),
        ({"lookback": []}, "lookback", "[] is not of type 'integer', 'string'"),
    ],
)
def test_error_names_field_and_bound(change: dict[str, Any], field: str, message: str) -> None:
    """It does not merely say that a value is invalid under all of the given schemas."""
    ((found, told),) = schema_errors(**change)
    assert found == field
    assert message in told


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lookback": "{{ env('DAYS') }}"},
        {"retention": "{{ lives }}"},
        {"sources": {"orders": {**FILES, "history": "{{ env('DAYS') }}"}, "rates": "{{ rates }}"}},
        {
            "sources": {"orders": {"reader": "acme.readers:Orders"}},
            "features": {"from": "orders", "key": "id"},
        },
    ],
)
def test_templates_and_omitted_defaults_are_valid(change: dict[str, Any]) -> None:
    """A template may replace any value, and members with defaults may be left out."""
    assert schema_errors(**change) == []
