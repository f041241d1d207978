"""What an engineer sees in Dagster: lineage, versions, checks, and a failed load that is run again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.dagster_page import DagsterPage, dagster_page
from tests.end_to_end.development_stack import MODELS, RUN_SECONDS, DevelopmentStack, development_stack
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.stack.dagster_runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
DAY, NEXT_DAY = "2013-02-01", "2013-02-02"
KINDS = {
    "features": {"sagemaker", "parquet"},
    "predictions": {"sagemaker", "deltalake", "json"},
    "dynamodb": {"dynamodb", "glue"},
    "snowflake": {"snowflake", "glue"},
    "publication": {"dynamodb", "snowflake"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentStack]:
    """Run a new stack under `make dev`."""
    with development_stack(tmp_path_factory.mktemp("ui")) as running:
        yield running


@pytest.fixture(scope="module")
def flights(stack: DevelopmentStack) -> str:
    """Return a batch of flight delays that the running daemon has published."""
    stack.train()
    batch_id = stack.score("flight_delay", DAY)
    wait_until(
        lambda: stack.is_live("flight_delay", batch_id), seconds=RUN_SECONDS, what=f"{batch_id} is live"
    )
    return batch_id


@pytest.fixture(scope="module")
def failed(flights: str, stack: DevelopmentStack) -> tuple[str, Run]:
    """Return a batch of the other model whose load failed finally, and its last run; Glue works again."""
    assert flights
    stack.glue_refuses(count=1000)
    batch_id = stack.score("airport_congestion", DAY)
    seen: list[Run] = []

    def has_failed() -> bool:
        run = stack.load_run("airport_congestion", batch_id)
        seen[:] = [run] if run else []
        return run is not None and run.has_failed

    wait_until(has_failed, seconds=RUN_SECONDS, what=f"the load of {batch_id} fails")
    stack.glue_refuses(count=0)
    return batch_id, seen[0]


@pytest.fixture(scope="module")
def page(stack: DevelopmentStack) -> Iterator[DagsterPage]:
    """Open the UI in a browser."""
    with dagster_page(stack.dagster.service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def run_again(failed: tuple[str, Run], stack: DevelopmentStack, page: DagsterPage) -> str:
    """Return the batch whose failed load was run again by one click on the failed run's page."""
    batch_id, run = failed
    assert not stack.is_live("airport_congestion", batch_id)
    page.open(f"/runs/{run.run_id}")
    page.see(re.compile("Glue refused to start job"))
    page.picture("failed_load")
    page.page.get_by_role("button", name=re.compile("Re-execute")).first.click()
    wait_until(
        lambda: stack.is_live("airport_congestion", batch_id), seconds=RUN_SECONDS, what=f"{batch_id} live"
    )
    return batch_id


def test_failed_load_is_run_again_from_the_page(
    run_again: str, failed: tuple[str, Run], stack: DevelopmentStack
) -> None:
    """A new run started on the failed run's page succeeds, and the failed run is kept."""
    again = stack.load_run("airport_congestion", run_again)
    assert again is not None
    assert again.run_id != failed[1].run_id
    stack.dagster.await_run(again.run_id, seconds=60, what="The run from the page")
    assert stack.dagster.run(failed[1].run_id).status == "FAILURE"


@pytest.mark.parametrize("model", MODELS)
def test_lineage_shows_all_assets_of_a_model(
    model: str, flights: str, run_again: str, stack: DevelopmentStack, page: DagsterPage
) -> None:
    """The lineage graph has each asset with its kinds and partitions, and the tables' checks have passed."""
    published = {"flight_delay": flights, "airport_congestion": run_again}[model]
    assert stack.was_published(model, published)
    page.open(f"/locations/flights/asset-groups/{model}/lineage")
    page.see_asset("features", "Sagemaker", "Parquet", "365 partitions")
    page.see_asset("model_versions", "Sagemaker", "1 partition")
    page.see_asset("trained_model", "Sagemaker", "Materialized")
    page.see_asset("predictions", "Sagemaker", "Delta Lake", "365 partitions")
    page.see_asset("dynamodb", "Passed", "glue")
    page.see_asset("snowflake", "Passed", "Snowflake")
    page.see_asset("publication", "365 partitions")
    page.picture(f"lineage_{model}")


def test_version_page_shows_state_and_verdict(
    flights: str, stack: DevelopmentStack, page: DagsterPage
) -> None:
    """A version's partition shows its state, verdict and artifact, and the champion asset names it."""
    assert flights
    versions = "flight_delay/model_versions"
    # A sensor reports the state that the retraining's run gave the version.
    wait_until(
        lambda: stack.dagster.materialization(versions).get("state") == "champion",
        seconds=RUN_SECONDS,
        what="version 1 is shown as the champion",
    )
    page.open(f"/assets/{versions}?view=partitions&partition=000001")
    page.see("champion")
    page.see(re.compile("Better than every naive baseline"))
    page.see(re.compile("models/flight_delay/candidates/.*/model.tar.gz"))
    page.picture("model_versions")
    shown = stack.dagster.materialization("flight_delay/trained_model")
    assert (shown["version"], shown["outcome"]) == ("1", "promoted")


def test_publication_page_shows_distributions(
    run_again: str, stack: DevelopmentStack, page: DagsterPage
) -> None:
    """The publication's page has a plot of a column's distribution."""
    assert run_again
    newer = stack.score("flight_delay", NEXT_DAY)
    # The pointer moves shortly before Dagster records the materialization.
    wait_until(
        lambda: stack.dagster.materialization("flight_delay/publication").get("batch_id") == newer,
        seconds=RUN_SECONDS,
        what=f"{newer} is published",
    )
    page.open("/assets/flight_delay/publication")
    page.see(newer)
    page.see_plot("distribution_delay_probability", "Distribution of delay_probability")
    page.picture("distribution")


def test_asset_graph_has_the_designed_edges(stack: DevelopmentStack) -> None:
    """Both models have the designed kinds and upstream assets in GraphQL."""
    nodes = asset_nodes(stack)
    for model in MODELS:
        for asset, kinds in KINDS.items():
            assert kinds <= set(nodes[f"{model}/{asset}"]["kinds"])
        assert upstream(nodes, f"{model}/model_versions") == {f"{model}/features"}
        assert upstream(nodes, f"{model}/trained_model") == {f"{model}/model_versions"}
        assert upstream(nodes, f"{model}/predictions") >= {f"{model}/features", f"{model}/trained_model"}
        for table in ("dynamodb", "snowflake"):
            assert upstream(nodes, f"{model}/{table}") == {f"{model}/predictions"}
        assert upstream(nodes, f"{model}/publication") == {f"{model}/dynamodb", f"{model}/snowflake"}


def asset_nodes(stack: DevelopmentStack) -> dict[str, dict[str, Any]]:
    """Return Dagster's own description of all assets by key."""
    query = "{ assetNodes { assetKey { path } kinds isExecutable dependencyKeys { path } } }"
    answer = stack.dagster._ask(query, {})
    return {"/".join(node["assetKey"]["path"]): node for node in answer["assetNodes"]}


def upstream(nodes: dict[str, dict[str, Any]], key: str) -> set[str]:
    """Return the keys that an asset depends on."""
    return {"/".join(found["path"]) for found in nodes[key]["dependencyKeys"]}
