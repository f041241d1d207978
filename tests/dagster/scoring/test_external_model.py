"""A model scored outside Dagster has the same graph, but Dagster does not score it."""

# No postponed annotations: Dagster compares the context's annotation itself.
import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.scoring.external_model import external_events, record_external_predictions
from prediction_contract.manifests.manifest import InputObject, Inputs, Producer
from tests.dagster.small_model import PARTITION, SmallModel, declaration

FEATURES_KEY = "features/things/dt=2013-02-01/run=r/features.parquet"


def loaded(**changes: object) -> dg.Definitions:
    """Return the code location of a model that SageMaker scores."""
    models = pipeline_definitions(declaration("things", produced_by="sagemaker", **changes))
    return dg.Definitions.merge(models, platform_definitions(models))


def test_external_features_and_predictions_keep_lineage_and_partitions() -> None:
    """They have parents and partitions like any model's, but Dagster cannot execute them."""
    graph = loaded().resolve_asset_graph()
    expected = {
        "features": {"raw/things"},
        "predictions": {"things/features", "things/trained_model", "things/predictions"},
    }
    for asset, parents in expected.items():
        node = graph.get(dg.AssetKey(["things", asset]))
        assert not node.is_executable
        assert {key.to_user_string() for key in node.parent_keys} == parents
        assert node.partitions_def is not None
        assert node.partitions_def.has_partition_key(PARTITION)
    assert graph.get(dg.AssetKey(["things", "dynamodb"])).is_executable


def test_external_model_is_retrained_only_with_training_declared() -> None:
    """Without `training` the trained model is shown, but no job makes it."""
    with_training, without = loaded(), loaded(training=None)
    key = dg.AssetKey(["things", "trained_model"])
    assert with_training.resolve_asset_graph().get(key).is_executable
    assert not without.resolve_asset_graph().get(key).is_executable
    assert {job.name for job in without.jobs or ()} == {"things_load", "things_challenge"}


def test_done_files_start_the_load_job_of_an_external_model() -> None:
    """It has no scoring schedule."""
    definitions = loaded()
    targets = definitions.resolve_sensor_def("done_files").targets
    assert [target.job_name for target in targets] == ["things_load"]
    assert not definitions.schedules


@pytest.mark.stack
def test_load_records_external_features_and_predictions_once(small_model: SmallModel) -> None:
    """A second load of the partition adds no materialization of either."""
    declared = small_model.declaration.model_copy(update={"produced_by": "sagemaker"})
    batch_id = small_model.registered_batch(
        inputs=Inputs(features=(InputObject(FEATURES_KEY, "a" * 64),)), producer=Producer("score-things-7")
    )

    @dg.asset(key=dg.AssetKey([declared.name, "dynamodb"]), partitions_def=small_model.partitions)
    def load(context: dg.AssetExecutionContext) -> None:
        manifest = registered_manifest(small_model.platform.bucket, small_model.record(batch_id))
        record_external_predictions(context, declared, manifest)

    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            assert dg.materialize([load], partition_key=PARTITION, instance=instance).success
        seen = {
            asset: instance.fetch_materializations(dg.AssetKey([declared.name, asset]), limit=10).records
            for asset in ("features", "predictions")
        }
    assert {asset: len(records) for asset, records in seen.items()} == {"features": 1, "predictions": 1}
    shown = seen["predictions"][0].asset_materialization
    assert shown is not None
    assert shown.partition == PARTITION
    assert shown.metadata["batch_id"].value == batch_id
    assert shown.metadata["producer"].value == "score-things-7"


@pytest.mark.stack
def test_batch_without_features_records_predictions_only(small_model: SmallModel) -> None:
    """A producer that names no features causes no features event."""
    events = external_events(small_model.declaration, small_model.manifest())
    assert [event.asset_key.path[-1] for event in events] == ["predictions"]
