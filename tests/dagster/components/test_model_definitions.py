"""Definitions made from one declaration: assets, lineage, checks and jobs."""

from __future__ import annotations

import dagster as dg
import pytest
from flights.definitions import defs

from mlpipe_dagster.components.prediction_pipeline import partitions_of
from mlpipe_dagster.scoring.predictions_asset import predictions_asset
from tests.dagster.small_model import declaration

MODELS = ("airport_congestion", "flight_delay")
ASSETS = {
    "features": ({"raw/nycflights13/flights"}, {"sagemaker", "parquet", "pandas"}),
    "model_versions": ({"features"}, {"sagemaker", "scikitlearn"}),
    "trained_model": ({"model_versions"}, {"sagemaker", "scikitlearn"}),
    "predictions": ({"features", "trained_model", "predictions"}, {"sagemaker", "deltalake", "json"}),
    "dynamodb": ({"predictions"}, {"dynamodb", "glue"}),
    "snowflake": ({"predictions"}, {"snowflake", "glue"}),
    "publication": ({"dynamodb", "snowflake"}, {"dynamodb", "snowflake"}),
    "accuracy": ({"publication", "features"}, {"sagemaker", "json"}),
    "challenger_predictions": ({"features", "predictions"}, {"sagemaker", "parquet"}),
}


@pytest.fixture(scope="module")
def loaded() -> dg.Definitions:
    """The code location as Dagster loads it."""
    return defs


def test_example_models_have_the_same_assets(loaded: dg.Definitions) -> None:
    """Each example model has all assets, and their raw data is an asset too."""
    keys = {key.to_user_string() for key in loaded.resolve_asset_graph().get_all_asset_keys()}
    examples = {
        key for key in keys if key.startswith((*(f"{model}/" for model in MODELS), "raw/nycflights13/"))
    }
    assert examples == {f"{model}/{asset}" for model in MODELS for asset in ASSETS} | {
        "raw/nycflights13/flights"
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("asset", ASSETS)
def test_asset_shows_lineage_group_kinds_and_owners(loaded: dg.Definitions, model: str, asset: str) -> None:
    """Users see in Dagster what each asset is made from and who owns it."""
    parents, kinds = ASSETS[asset]
    node = loaded.resolve_asset_graph().get(dg.AssetKey([model, asset]))
    full = {parent if "/" in parent else f"{model}/{parent}" for parent in parents}
    assert {key.to_user_string() for key in node.parent_keys} == full
    assert (node.group_name, set(node.kinds), list(node.owners)) == (model, kinds, ["team:predictions"])


@pytest.mark.parametrize("model", MODELS)
def test_predictions_depend_on_the_previous_partition(loaded: dg.Definitions, model: str) -> None:
    """The predictions of a day are made from those of the day before; the first day has none."""
    spec = loaded.resolve_assets_def(dg.AssetKey([model, "predictions"])).get_asset_spec()
    (own,) = [dep for dep in spec.deps if dep.asset_key == spec.key]
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    assert own.partition_mapping is not None
    for day, before in (("2013-02-02", ["2013-02-01"]), ("2013-01-01", [])):
        upstream = own.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(
            days.subset_with_partition_keys([day]), days, days
        )
        assert list(upstream.partitions_subset.get_partition_keys()) == before
        assert list(upstream.required_but_nonexistent_subset.get_partition_keys()) == []


@pytest.mark.parametrize("model", MODELS)
def test_both_tables_have_a_blocking_check(loaded: dg.Definitions, model: str) -> None:
    """A batch whose rows do not add up in one of the tables is not published."""
    graph = loaded.resolve_asset_graph()
    for table in ("dynamodb", "snowflake"):
        check = graph.get(dg.AssetCheckKey(dg.AssetKey([model, table]), "adds_up"))
        assert check.blocking


@pytest.mark.parametrize("model", MODELS)
def test_jobs_hold_their_assets_and_checks(loaded: dg.Definitions, model: str) -> None:
    """The load job holds both tables, the publication and their checks, and nothing else."""
    jobs = {
        name: loaded.resolve_job_def(f"{model}_{name}").asset_layer
        for name in ("train", "score", "load", "accuracy")
    }
    selected = {name: {key.path[-1] for key in layer.selected_asset_keys} for name, layer in jobs.items()}
    assert selected == {
        "train": {"trained_model"},
        "score": {"features", "predictions"},
        "load": {"dynamodb", "snowflake", "publication"},
        "accuracy": {"accuracy"},
    }
    measured = {(key.asset_key.path[-1], key.name) for key in jobs["accuracy"].asset_graph.asset_check_keys}
    assert measured == {("accuracy", "accuracy_holds")}
    checks = {(key.asset_key.path[-1], key.name) for key in jobs["load"].asset_graph.asset_check_keys}
    assert checks == {
        ("dynamodb", "adds_up"),
        ("snowflake", "adds_up"),
        ("snowflake", "quality"),
        ("snowflake", "against_live"),
        ("snowflake", "drift"),
        ("publication", "api_canary"),
        ("publication", "live_batch_lasts"),
    }


def test_one_sensor_loads_batches_of_all_models(loaded: dg.Definitions) -> None:
    """The sensor of done files may start each model's load job, and runs unless it is switched off."""
    sensor = loaded.resolve_sensor_def("done_files")
    assert {target.job_name for target in sensor.targets} >= {f"{model}_load" for model in MODELS}
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


@pytest.mark.parametrize("sensor", ["live_batches", "warehouse_projection", "serving_regions", "accuracy"])
def test_sensors_of_live_batches_run_by_default(loaded: dg.Definitions, sensor: str) -> None:
    """Live pointers, projection, regions and accuracy are watched unless a sensor is switched off."""
    assert loaded.resolve_sensor_def(sensor).default_status is dg.DefaultSensorStatus.RUNNING


def test_predictions_and_tables_show_the_column_schema(loaded: dg.Definitions) -> None:
    """Users see the declared columns and their types in the catalogue."""
    spelt = {
        "predictions": "expected_delay_minutes",
        "dynamodb": "expected_delay_minutes",
        "snowflake": "EXPECTED_DELAY_MINUTES",
    }
    for asset, name in spelt.items():
        node = loaded.resolve_asset_graph().get(dg.AssetKey(["flight_delay", asset]))
        schema = node.metadata["dagster/column_schema"]
        assert (name, "decimal(7,2)") in {(col.name, col.type) for col in schema.columns}


@pytest.mark.parametrize(("lookback", "is_read"), [(0, False), (1, True)])
def test_predictions_depend_on_earlier_ones_only_with_lookback(lookback: int, is_read: bool) -> None:
    """Without lookback, partitions may be scored in any order and all at once."""
    declared = declaration("things", lookback=lookback)
    asset = predictions_asset(declared, partitions_of(declared))
    assert (asset.key in {dep.asset_key for dep in asset.get_asset_spec().deps}) is is_read
