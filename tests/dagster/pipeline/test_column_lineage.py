"""Column lineage runs from features to both tables, and assets link to the code that makes them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.asset_metadata import batch_lineage, code_links, column_lineage, column_schema
from model_declaration.declaration import ModelDeclaration
from model_declaration.declaration_files import declaration_of
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.dagster.small_model import declaration
from tests.projects import EXAMPLE

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
    """Return the source columns of each column of an asset."""
    lineage = column_lineage(DECLARED, asset).deps_by_column
    return {
        column: sorted((dep.asset_key.to_user_string(), dep.column_name) for dep in found)
        for column, found in lineage.items()
    }


def test_prediction_column_lists_declared_feature_columns() -> None:
    """A column that declares no source has no lineage."""
    assert deps("predictions") == {"score": [("things/features", "age"), ("things/features", "size")]}


def test_table_lineage_uses_stored_column_names() -> None:
    """The names equal the attributes of DynamoDB items and the columns of the Snowflake table."""
    names = DECLARED.prediction_schema
    assert set(deps("dynamodb")) == {attribute for _, attribute, _ in OnlineItems(names)._attributes}
    stored = {column.name.strip('"') for column in WarehouseTable("things", names).columns}
    assert set(deps("snowflake")) == stored - {"BATCH_ID", "ROW_CHECKSUM"}
    assert deps("dynamodb")["entity_id"] == deps("snowflake")["THING"] == [("things/predictions", "thing")]


CLEANING = [
    {"column": "thing", "trim": True, "rename": "item"},
    {"column": "score", "default": 0.5, "clamp": {"minimum": 0, "maximum": 1}, "rename": "points"},
    {"column": "note", "drop": True},
]
CLEANED = declaration("things", columns=[*COLUMNS, {"name": "note", "type": "json"}], cleaning=CLEANING)


@pytest.mark.parametrize(
    ("asset", "names"),
    [
        ("dynamodb", {"entity_id": "thing", "points": "score"}),
        ("snowflake", {"ITEM": "thing", "POINTS": "score"}),
    ],
)
def test_cleaned_columns_lead_to_predicted_columns(asset: str, names: dict[str, str]) -> None:
    """A renamed column leads to its source, a dropped one is absent, and the schema lists the cleaning."""
    lineage = column_lineage(CLEANED, asset).deps_by_column
    assert {column: deps[0].column_name for column, deps in lineage.items()} == names
    (key, points) = column_schema(CLEANED, asset).columns
    assert [key.name, points.name] == list(names)
    assert key.description == "trimmed, thing in the predictions"
    assert points.description == "0.5 if there is no value, at least 0, at most 1, score in the predictions"
    assert not points.constraints.nullable
    metadata = asset_graph(CLEANED).get(dg.AssetKey(["things", asset])).metadata
    assert metadata["cleaning"].value["note"] == "left out"
    assert metadata["dagster/column_lineage"] == column_lineage(CLEANED, asset)


def test_predictions_show_columns_before_cleaning() -> None:
    """Predictions keep the columns that the model wrote, because cleaning comes later."""
    assert [column.name for column in column_schema(CLEANED).columns] == ["thing", "score", "note"]
    assert column_lineage(CLEANED, "predictions").deps_by_column.keys() == {"score"}


def test_batch_lineage_uses_cleaning_rules_of_its_load() -> None:
    """Later declarations do not change it, and rules for columns that no longer exist are ignored."""
    kept = Cleaning((ColumnCleaning(column="score", rename="mark"),))
    lineage = batch_lineage(CLEANED, "dynamodb", kept).deps_by_column
    assert {column: deps[0].column_name for column, deps in lineage.items()} == {
        "entity_id": "thing",
        "mark": "score",
        "note": "note",
    }
    gone = Cleaning((ColumnCleaning(column="colour", drop=True),))
    assert batch_lineage(CLEANED, "dynamodb", gone) == column_lineage(CLEANED, "dynamodb")


@pytest.mark.parametrize("asset", ["predictions", "dynamodb", "snowflake"])
def test_lineage_is_shown_before_the_first_run(asset: str) -> None:
    """Each asset's definition contains its column lineage."""
    shown = asset_graph(DECLARED).get(dg.AssetKey(["things", asset])).metadata["dagster/column_lineage"]
    assert shown == column_lineage(DECLARED, asset)


@pytest.mark.parametrize(
    ("functions", "ends"),
    [
        ((), [("defs/flight_delay/defs.yaml", "type:")]),
        (
            ("predict",),
            [("defs/flight_delay/defs.yaml", "type:"), ("flight_delay/predict.py", "def predict(")],
        ),
        (("train",), [("defs/flight_delay/defs.yaml", "type:"), ("flight_delay/train.py", "def train(")]),
        (
            ("features", "outcomes"),
            [
                ("defs/flight_delay/defs.yaml", "type:"),
                ("flight_delay/features.py", "def features("),
                ("flight_delay/outcomes.py", "def outcomes("),
            ],
        ),
    ],
)
def test_asset_links_to_its_code(functions: tuple[str, ...], ends: list[tuple[str, str]]) -> None:
    """Links name the file and the line where the declaration or the function begins."""
    links = code_links(declaration_of("flight_delay", EXAMPLE.defs), *functions)[
        "dagster/code_references"
    ].code_references
    for link, (path, begins) in zip(links, ends, strict=True):
        assert link.file_path.endswith(path)
        assert Path(link.file_path).read_text().splitlines()[link.line_number - 1].startswith(begins)


def test_assets_have_declared_tags_group_and_owners() -> None:
    """All assets of a model have them."""
    declared = declaration("things", group="stock", tags={"cost": "low"}, owners=["team:depot"])
    graph = asset_graph(declared)
    for asset in ("features", "trained_model", "predictions", "dynamodb", "snowflake", "publication"):
        node = graph.get(dg.AssetKey(["things", asset]))
        assert node.owners == ["team:depot"]
        assert (node.group_name, node.tags["cost"], node.tags["mlpipe/model"]) == ("stock", "low", "things")
