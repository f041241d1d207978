"""Challengers in Dagster: which batches they score, in which run, and what the comparison shows."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.challengers.challenger_asset import challenger_asset
from mlpipe_dagster.challengers.challenger_comparison import comparison_metadata, comparison_result
from mlpipe_dagster.challengers.challengers_sensor import challengers_tick
from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from model_declaration.quality import Quality
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.naming.s3_layout import challenger_comparison_key
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_rules import challenge, record_version
from tests.dagster.small_model import PARTITION, declaration, now
from tests.sagemaker.registered_versions import version_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.dagster.small_model import SmallModel

MODEL_FILE = {"path": "trained/others.ubj", "sha256": "ab" * 32, "codec": "xgboost"}
TRAINING = {"window": 30, "held_out": 14, "approval": "manual"}
KEY = dg.AssetKey(["m", "challenger_predictions"])
ARCHIVE = PinnedModel(digest="0" * 16, key="models/m/candidates/2/output/model.tar.gz", sha256="0" * 64)


def comparison(batch_id: str = "20130201T060000Z-00000001", **changes: Any) -> dict[str, Any]:
    """Return a comparison without findings, unless changed."""
    return {
        "batch_id": batch_id,
        "champion": 1,
        "champion_digest": "1" * 16,
        "challenger": 2,
        "challenger_digest": "2" * 16,
        "rows_champion": 3,
        "rows_challenger": 3,
        "columns": [{"column": "score", "stability_index": 0.05, "nulls_champion": 0, "nulls_challenger": 1}],
        "earlier": None,
        **changes,
    }


def earlier_metrics(**changes: Any) -> dict[str, Any]:
    """Return the metrics of champion and challenger on the partition before."""
    metric = {
        "name": "mae:score",
        "better": "lower",
        "rows": 3,
        "champion": 5.0,
        "challenger": 4.0,
        "why": None,
    }
    return {"partition": "2013-01-31", "batch_id": "b", "metrics": [{**metric, **changes}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "close to the champion's, and its metrics are not worse"),
        ({"earlier": earlier_metrics()}, "close to the champion's, and its metrics are not worse"),
        (
            {"earlier": earlier_metrics(champion=None, challenger=None)},
            "close to the champion's, and its metrics are not worse",
        ),
        (
            {"earlier": earlier_metrics(challenger=6.0)},
            "the challenger is worse on 2013-01-31: its mae:score is 6, the champion's is 5",
        ),
        (
            {"earlier": earlier_metrics(better="higher")},
            "the challenger is worse on 2013-01-31: its mae:score is 4, the champion's is 5",
        ),
        ({"rows_challenger": 2}, "the challenger predicts 2 rows, but the batch has 3"),
        (
            {"columns": [{**comparison()["columns"][0], "stability_index": 0.4}]},
            "score has drifted: its stability index is 0.40",
        ),
    ],
)
def test_challenger_that_differs_or_is_worse_warns(changes: dict[str, Any], words: str) -> None:
    """A finding never blocks, since readers do not get the challenger's predictions."""
    quality = Quality.model_validate({"drift": {"warn": 0.2}})
    result = comparison_result(KEY, quality, comparison(**changes))
    assert result.description is not None
    assert words in result.description
    assert result.passed is ("not worse" in words)
    assert result.severity is dg.AssetCheckSeverity.WARN


def test_metadata_shows_versions_columns_and_metrics() -> None:
    """A missing value is shown as a dash, and without an earlier partition there is no table of metrics."""
    shown = comparison_metadata(comparison(earlier=earlier_metrics(challenger=None)))
    assert (shown["champion"], shown["challenger"], shown["judged_partition"]) == (1, 2, "2013-01-31")
    assert "| `score` | `0.050` | `0` | `1` |" in shown["columns"].value
    assert "| `mae:score` | `3` | `5` | `-` |" in shown["metrics"].value
    assert "metrics" not in comparison_metadata(comparison())


def test_only_models_with_versions_have_challengers() -> None:
    """The asset has the partitions of predictions and its own check, and is not in the load or score job."""
    with_versions, without = (
        declaration("things", training=TRAINING),
        declaration("others", training=None, model=MODEL_FILE),
    )
    models = dg.Definitions.merge(pipeline_definitions(with_versions), pipeline_definitions(without))
    definitions = dg.Definitions.merge(models, platform_definitions(models))
    sensor = definitions.resolve_sensor_def("challengers")
    assert [target.job_name for target in sensor.targets] == ["things_challenge"]
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey(["things", "challenger_predictions"])
    assert not graph.has(dg.AssetKey(["others", "challenger_predictions"]))
    assert graph.get(key).partitions_def == graph.get(dg.AssetKey(["things", "predictions"])).partitions_def
    assert [each.name for each in graph.get(key).check_keys] == ["challenger_compares"]
    for job in ("things_load", "things_score"):
        assert key not in definitions.resolve_job_def(job).asset_layer.executable_asset_keys


@pytest.mark.stack
def test_challenger_scores_each_new_batch_in_its_own_run(small_model: SmallModel) -> None:
    """Without a challenger nothing is requested, and repeated ticks request the same run."""
    name, registry = small_model.name, small_model.platform.registry
    batch_id, refused = small_model.registered_batch(), small_model.batch_id()
    assert not challengers_tick(None, registry, [name]).run_requests
    make_challenger(small_model)
    first, second = (challengers_tick(None, registry, [name]).run_requests or [] for _ in range(2))
    (request,) = first
    assert [each.run_key for each in second] == [request.run_key]
    assert (request.job_name, request.partition_key) == (f"{small_model.name}_challenge", PARTITION)
    (op,) = request.run_config["ops"].values()
    assert op["config"] == {"batch_id": batch_id, "version": 2}
    assert refused not in str(request)
    unreadable = small_model.unreadable_model()
    assert challengers_tick(None, registry, [unreadable, name]).run_requests == first


@pytest.mark.stack
def test_challenger_job_gets_batch_and_version(small_model: SmallModel) -> None:
    """The asset shows the job's comparison and leaves the batch's record unchanged."""
    batch_id = small_model.registered_batch()
    before = small_model.record(batch_id)
    told: list[ScoreArguments] = []

    class Jobs(SageMakerJobs):
        """Fakes SageMaker: a job keeps its arguments and stores a comparison."""

        def client(self) -> Any:
            """Return a client that runs the fake job."""

            def run(
                *, job_name: Callable[[int], str], request: Callable[..., Mapping[str, Any]], **_: Any
            ) -> Any:
                wanted = request(job_name(1), 1)["AppSpecification"]
                assert wanted["ContainerEntrypoint"][1].endswith("/sagemaker_scripts/score_challenger.py")
                told.append(ScoreArguments.parse(wanted["ContainerArguments"]))
                key = challenger_comparison_key(small_model.name, told[0].version or 0, PARTITION, batch_id)
                small_model.platform.bucket.put(key, json.dumps(comparison(batch_id)).encode())
                return SimpleNamespace(metadata={"job_name": job_name(1)})

            return SimpleNamespace(run=run)

    asset = challenger_asset(small_model.declaration, small_model.partitions)
    resources = {"platform": small_model.platform, "sagemaker_jobs": Jobs(platform=small_model.platform)}
    with dg.DagsterInstance.ephemeral() as instance:
        given: dict[str, Any] = {"partition_key": PARTITION, "instance": instance, "raise_on_error": False}
        assert not dg.materialize([asset], resources=resources, **given).success
        assert not told
        make_challenger(small_model)
        done = dg.materialize([asset], resources=resources, **given)
        assert done.success
        (check,) = done.get_asset_check_evaluations()
    assert (told[0].batch_id, told[0].version, told[0].partition) == (batch_id, 2, PARTITION)
    (shown,) = done.asset_materializations_for_node(f"{small_model.name}__challenger_predictions")
    assert shown.metadata["job_name"].value == f"shadow-2-{small_model.name}-{batch_id}-1"
    assert check.passed
    assert small_model.record(batch_id) == before


def make_challenger(small_model: SmallModel) -> None:
    """Make a registered version the model's challenger."""
    name, registry = small_model.name, small_model.platform.registry
    found = version_record(name, ARCHIVE, version=2, state="approved")
    registry.carry_out(lambda: record_version(registry.model_version(name, 2), found))
    request, moment = ChangeRequest(request_id="challenge-1", actor="test"), now()
    registry.carry_out(
        lambda: challenge(
            registry.model_version(name, 2), registry.champion(name), request, model=name, now=moment
        )
    )
