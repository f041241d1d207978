"""Sources of features appear in Dagster's graph as the asset that makes them or as external assets."""

# No postponed annotations: Dagster compares the context's annotation itself.
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.library_kinds import library_kind
from mlpipe_dagster.scoring.trained_elsewhere import record_model_file, trained_elsewhere_spec
from tests.dagster.small_model import attributes, declaration
from tests.declaration.test_sources import MODEL_FILE, ORDERS, RATES, SHIPS

PLAIN = {"format": "csv", "path": "raw/orders/dt={date}/orders.csv.gz", "columns": {"id": "string"}}


def graph(*models: dg.Definitions, assets: tuple[Any, ...] = ()) -> Any:
    """Return the asset graph of a code location with models and other assets."""
    merged = dg.Definitions.merge(*models, dg.Definitions(assets=assets))
    return dg.Definitions.merge(merged, platform_definitions(merged)).resolve_asset_graph()


def model(name: str = "things", **changes: Any) -> dg.Definitions:
    """Return the definitions of a model."""
    return pipeline_definitions(declaration(name, **changes))


def parents(found: Any, name: str = "things") -> set[str]:
    """Return the parents of a model's features."""
    return {key.to_user_string() for key in found.get(dg.AssetKey([name, "features"])).parent_keys}


def test_source_key_is_its_asset_folder_or_query() -> None:
    """Keys of equal folders differ by bucket, and a query is named after its source."""
    sources = {
        "orders": ORDERS,
        "plain": PLAIN,
        "far": PLAIN | {"bucket": "lake"},
        "rates": RATES,
        "ships": SHIPS,
    }
    found = parents(graph(model(sources=sources)))
    assert found == {"lake/orders", "raw/orders", "lake/raw/orders", "things/rates", "raw/ships"}


@pytest.mark.parametrize(
    ("source", "key", "kinds", "metadata"),
    [
        (PLAIN, "raw/orders", {"s3", "csv"}, {"format": "csv", "path": PLAIN["path"]}),
        (ORDERS, "lake/orders", {"s3", "parquet"}, {"bucket": "acme-lake", "path": ORDERS["path"]}),
        (
            {"format": "delta", "path": "tables/all"},
            "tables/all",
            {"s3", "deltalake"},
            {"path": "tables/all"},
        ),
        (RATES, "things/source", {"snowflake"}, {"query": RATES["query"]}),
        (SHIPS, "raw/ships", {"s3", "python"}, {"reader": "acme.readers:Ships"}),
    ],
)
def test_source_without_producer_is_external(
    source: dict[str, Any], key: str, kinds: set[str], metadata: dict[str, str]
) -> None:
    """Its format, path, bucket, query or reader is shown as metadata."""
    node = graph(model(sources={"source": source})).get(dg.AssetKey(key.split("/")))
    assert not node.is_executable
    assert node.group_name == "sources"
    assert set(node.kinds) == kinds
    assert metadata.items() <= dict(node.metadata).items()


def test_models_share_a_source() -> None:
    """Two models that read one folder have one source asset, whose description names both."""
    found = graph(model("one", sources={"orders": PLAIN}), model("two", sources={"other": PLAIN}))
    assert parents(found, "one") == parents(found, "two") == {"raw/orders"}
    assert "one, two" in (found.get(dg.AssetKey(["raw", "orders"])).description or "")


def test_project_asset_replaces_external_source() -> None:
    """If the project defines the asset, the graph holds it instead of an external one."""

    @dg.asset(key=["raw", "orders"], kinds={"duckdb"})
    def orders() -> None:
        pass

    found = graph(model(sources={"orders": PLAIN}), assets=(orders,))
    node = found.get(dg.AssetKey(["raw", "orders"]))
    assert node.is_executable
    assert set(node.kinds) == {"duckdb"}
    assert parents(found) == {"raw/orders"}


def test_sources_in_one_folder_are_one_asset() -> None:
    """Different files of a folder share its asset."""
    sources = {"orders": PLAIN, "returns": PLAIN | {"path": "raw/orders/dt={date}/returns.csv.gz"}}
    assert parents(graph(model(sources=sources))) == {"raw/orders"}


def test_prepared_features_name_source_and_key() -> None:
    """The description says which rows they are and which column holds the entity id."""
    prepared = {"from": "orders", "key": "customer_id"}
    node = graph(model(sources={"orders": ORDERS}, features=prepared)).get(
        dg.AssetKey(["things", "features"])
    )
    assert set(node.kinds) == {"sagemaker", "parquet", "s3"}
    assert node.description == "The unchanged rows of the source orders, with the entity id in customer_id."


def test_model_trained_elsewhere_is_external() -> None:
    """File kind and digest are shown, it has no parents, and no job trains it."""
    definitions = model(training=None, model=MODEL_FILE, sources={"orders": ORDERS})
    node = graph(definitions).get(dg.AssetKey(["things", "trained_model"]))
    assert not node.is_executable
    assert not node.parent_keys
    assert set(node.kinds) == {"s3", "xgboost"}
    assert node.metadata["sha256"] == MODEL_FILE["sha256"]
    assert {job.name for job in definitions.jobs or ()} == {"things_score", "things_load"}


def test_data_version_is_digest_of_model_file() -> None:
    """It is recorded once per file, and again when the declaration names another file."""
    key = dg.AssetKey(["things", "trained_model"])

    def scores(sha256: str) -> dg.AssetsDefinition:
        declared = declaration("things", training=None, model=MODEL_FILE | {"sha256": sha256})

        @dg.asset
        def predictions(context: dg.AssetExecutionContext) -> None:
            record_model_file(context, declared)

        return predictions

    with dg.DagsterInstance.ephemeral() as instance:
        for sha256 in ("ab" * 32, "ab" * 32, "cd" * 32):
            assert dg.materialize([scores(sha256)], instance=instance).success
        found = instance.fetch_materializations(key, limit=10).records
        made = [each.asset_materialization for each in found]
    versions = [(each.tags or {})["dagster/data_version"] for each in made if each]
    assert versions == ["cd" * 32, "ab" * 32]


def test_predictions_use_model_version_recorded_by_features() -> None:
    """The first batch with a new file refers to that file's digest."""
    declared = declaration("things", training=None, model=MODEL_FILE)
    assert declared.model_file is not None

    @dg.asset
    def features(context: dg.AssetExecutionContext) -> None:
        record_model_file(context, declared)

    @dg.asset(deps=[features, trained_elsewhere_spec(declared, declared.model_file)])
    def predictions() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([features, predictions], instance=instance).success
        made = instance.get_latest_materialization_event(predictions.key)
    tags = (made.asset_materialization.tags if made and made.asset_materialization else None) or {}
    assert tags["dagster/input_data_version/things/trained_model"] == MODEL_FILE["sha256"]


@pytest.mark.parametrize(
    ("changes", "requirements", "kind"),
    [
        ({}, None, "scikitlearn"),
        ({"requirements": "boosting"}, "# for trees\nnumpy\nlightgbm>=4,<5\n", "lightgbm"),
        ({"requirements": "boosting"}, "xgboost-cpu==3.2.0", "xgboost"),
        ({"requirements": "boosting"}, "Torch[cpu]\n", "pytorch"),
        ({"requirements": "boosting"}, "polars\n", "scikitlearn"),
        ({"requirements": "boosting"}, None, "scikitlearn"),
        ({"training": None, "model": MODEL_FILE}, None, "xgboost"),
        ({"training": None, "model": MODEL_FILE | {"codec": "skops"}}, None, "scikitlearn"),
    ],
)
@pytest.mark.parametrize("source_folder", ["src", "."])
def test_asset_kind_is_the_training_library(
    tmp_path: Path, changes: dict[str, Any], requirements: str | None, kind: str, source_folder: str
) -> None:
    """It follows from the model file's format or from the project's requirements."""
    folder = tmp_path / source_folder / "acme" / "defs" / "things"
    folder.mkdir(parents=True)
    if requirements is not None:
        (tmp_path / "requirements").mkdir()
        (tmp_path / "requirements" / "boosting.in").write_text(requirements)
    declared = type(declaration("things")).model_validate(
        {"name": "things", "folder": folder, **attributes(**changes)}
    )
    assert library_kind(declared) == kind
