"""From a feature's column to the columns of both tables, and from an asset to the code that makes it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from mlpipe_dagster.assets.column_lineage import column_lineage
from mlpipe_dagster.assets.shown import code_links
from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.definitions import platform_definitions
from prediction_contract.online_item import OnlineItems
from prediction_contract.warehouse_table import WarehouseTable
from tests.pipeline.small_model import declaration

COLUMNS = [
    {"name": "thing", "type": "string", "nullable": False, "key": True},
    {"name": "score", "type": "double", "derived_from": ["size", "age"]},
]
DECLARED = declaration("things", columns=COLUMNS)


def asset_graph(declared: ModelDeclaration) -> AssetGraph:
    """Return the graph of one model's code location."""
    models = pipeline_definitions(declared)
    return dg.Definitions.merge(models, platform_definitions(models)).resolve_asset_graph()


def deps(asset: str) -> dict[str, list[tuple[str, str]]]:
    """Return the columns of an asset and from which each comes."""
    lineage = column_lineage(DECLARED, asset).deps_by_column
    return {
        column: sorted((dep.asset_key.to_user_string(), dep.column_name) for dep in found)
        for column, found in lineage.items()
    }


def test_a_prediction_comes_from_the_declared_columns_of_the_features() -> None:
    """A column that declares no source claims none."""
    assert deps("predictions") == {"score": [("things/features", "age"), ("things/features", "size")]}


def test_tables_spell_columns_as_they_are_stored() -> None:
    """The names are those that items and the warehouse's table really have."""
    names = DECLARED.prediction_schema
    assert set(deps("dynamodb")) == {attribute for _, attribute, _ in OnlineItems(names)._attributes}
    stored = {column.name.strip('"') for column in WarehouseTable("things", names).columns}
    assert set(deps("snowflake")) == stored - {"BATCH_ID", "ROW_CHECKSUM"}
    assert deps("dynamodb")["entity_id"] == deps("snowflake")["THING"] == [("things/predictions", "thing")]


@pytest.mark.parametrize("asset", ["predictions", "dynamodb", "snowflake"])
def test_lineage_is_shown_before_anything_ran(asset: str) -> None:
    """The definition of each asset carries it."""
    shown = asset_graph(DECLARED).get(dg.AssetKey(["things", asset])).metadata["dagster/column_lineage"]
    assert shown == column_lineage(DECLARED, asset)


@pytest.mark.parametrize(
    ("function", "ends"),
    [
        (None, [("defs/flight_delay/defs.yaml", "type:")]),
        ("predict", [("defs/flight_delay/defs.yaml", "type:"), ("flight_delay/predict.py", "def predict(")]),
        ("train", [("defs/flight_delay/defs.yaml", "type:"), ("flight_delay/train.py", "def train(")]),
        (
            "features",
            [("defs/flight_delay/defs.yaml", "type:"), ("flight_delay/features.py", "def features(")],
        ),
    ],
)
def test_an_asset_leads_to_its_code(function: str | None, ends: list[tuple[str, str]]) -> None:
    """The links name the file and the line where the declaration or the function begins."""
    links = code_links("flight_delay", function)["dagster/code_references"].code_references
    for link, (path, begins) in zip(links, ends, strict=True):
        assert link.file_path.endswith(path)
        assert Path(link.file_path).read_text().splitlines()[link.line_number - 1].startswith(begins)


def test_tags_group_and_owners_are_the_declared_ones() -> None:
    """All assets of a model carry them."""
    declared = declaration("things", group="stock", tags={"cost": "low"}, owners=["team:depot"])
    graph = asset_graph(declared)
    for asset in ("features", "trained_model", "predictions", "dynamodb", "snowflake", "publication"):
        node = graph.get(dg.AssetKey(["things", asset]))
        assert node.owners == ["team:depot"]
        assert (node.group_name, node.tags["cost"], node.tags["mlpipe/model"]) == ("stock", "low", "things")
