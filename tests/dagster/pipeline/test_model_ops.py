"""Ops of several models run side by side under separate names."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.pipeline.model_ops import model_asset

PARTITIONS = dg.DailyPartitionsDefinition("2013-01-01")


class Sized(dg.Config):
    """The config of the scoring step."""

    size: int = 1


def scored(model: str, *raw: str) -> dg.AssetsDefinition:
    """Return an asset whose result names its model."""
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    key = dg.AssetKey([model, "scores"])

    @model_asset(
        key=key,
        deps=[*map(dg.AssetKey, raw), dg.AssetDep(key, partition_mapping=before)],
        description=f"Of {model}",
        kinds={"s3"},
        group_name=model,
        owners=["team:depot"],
        tags={"of": model},
        metadata={"of": model},
        partitions_def=PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        pool="machines",
    )
    def scores(
        context: dg.AssetExecutionContext, config: Sized, bucket: dg.ResourceParam[str]
    ) -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(
            metadata={"told": f"{model} {config.size} {bucket} {context.partition_key}"}
        )

    return scores


def loaded(model: str) -> dg.AssetsDefinition:
    """Return two tables that one step makes."""

    @dg.multi_asset(
        name=f"{model}__load",
        specs=[
            dg.AssetSpec([model, table], deps=[[model, "scores"]], skippable=True, partitions_def=PARTITIONS)
            for table in ("left", "right")
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        for key in sorted(context.selected_asset_keys):
            yield dg.MaterializeResult(asset_key=key, metadata={"told": model})

    return load


def checked(model: str) -> dg.AssetChecksDefinition:
    """Return two checks that one step makes."""
    specs = [
        dg.AssetCheckSpec("sound", asset=dg.AssetKey([model, table]), blocking=True, description=model)
        for table in ("left", "right")
    ]

    @dg.multi_asset_check(name=f"{model}__sound", specs=specs, can_subset=True)
    def sound(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for spec in specs:
            if spec.key in context.op_execution_context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    asset_key=spec.asset_key, check_name=spec.name, passed=True, description=model
                )

    return sound


@pytest.fixture
def definitions() -> dg.Definitions:
    """Make three models in turn; the third reads an additional asset."""
    made = [
        (scored(model, *raw), loaded(model), checked(model))
        for model, raw in (("first", ["raw"]), ("second", ["raw"]), ("third", ["other", "raw"]))
    ]
    return dg.Definitions(
        assets=[each for scores, load, _ in made for each in (scores, load)],
        asset_checks=[checks for _, _, checks in made],
        resources={"bucket": "bucket"},
        jobs=[dg.define_asset_job(model, f"group:{model} or key:{model}/*") for model in ("first", "second")],
        executor=dg.in_process_executor,
    )


@pytest.mark.parametrize("model", ["first", "second"])
def test_each_model_runs_its_own_body_and_steps(definitions: dg.Definitions, model: str) -> None:
    """Config, resource and partition reach the body, and step names begin with the model."""
    result = definitions.resolve_job_def(model).execute_in_process(
        partition_key="2013-01-02", run_config={"ops": {f"{model}__scores": {"config": {"size": 7}}}}
    )
    assert result.success
    told = {
        event.asset_key.to_user_string(): event.materialization.metadata["told"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert told == {
        f"{model}/scores": f"{model} 7 bucket 2013-01-02",
        f"{model}/left": model,
        f"{model}/right": model,
    }
    steps = {event.step_key for event in result.all_events if event.step_key}
    assert steps == {f"{model}__scores", f"{model}__load", f"{model}__sound"}
    checks = result.get_asset_check_evaluations()
    assert {(each.asset_key.path[0], each.description) for each in checks} == {(model, model)}


def test_one_table_can_be_selected_alone(definitions: dg.Definitions) -> None:
    """Selecting one table materializes only that table, and makes only its check."""
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(["second", "right"])], partition_key="2013-01-02"
    )
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [
        dg.AssetKey(["second", "right"])
    ]
    assert [each.asset_key for each in result.get_asset_check_evaluations()] == [
        dg.AssetKey(["second", "right"])
    ]


def test_each_model_has_its_own_lineage(definitions: dg.Definitions) -> None:
    """Assets that one model reads are not parents of another model's assets."""
    graph = definitions.resolve_asset_graph()
    parents = {
        model: {key.to_user_string() for key in graph.get(dg.AssetKey([model, "scores"])).parent_keys}
        for model in ("first", "second", "third")
    }
    assert parents == {
        "first": {"raw", "first/scores"},
        "second": {"raw", "second/scores"},
        "third": {"raw", "other", "third/scores"},
    }
    node = graph.get(dg.AssetKey(["second", "scores"]))
    assert (node.group_name, node.tags["of"], node.metadata["of"], node.pools) == (
        "second",
        "second",
        "second",
        {"machines"},
    )
