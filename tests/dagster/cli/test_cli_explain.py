"""`mlpipe explain` traces an API response or a batch id back to everything it came from."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.cli.inspection.dagster_history import batch_history
from mlpipe_dagster.cli.inspection.job_documents import cost_document
from mlpipe_dagster.cli.inspection.prediction_response import UnreadableResponseError, parse_response
from mlpipe_dagster.costs import Prices
from mlpipe_dagster.pipeline.asset_names import BATCH_TAG, MODEL_TAG, selected_batch_tag
from prediction_contract.manifests.manifest import InputObject, Inputs, ModelPackage, Producer
from prediction_contract.naming.batch import job_name

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dagster.cli_calls import CommandLine
    from tests.dagster.small_model import SmallModel

on_the_stack = pytest.mark.stack
SOURCES = [
    {"source": "orders", "bucket": "lake", "key": "raw/orders/a.parquet", "size": 120, "etag": "d41d8c"},
    {"source": "sales", "bucket": "lake", "key": "lake/sales", "version": 7},
    {"source": "rates", "query_id": "01b2-c3", "rows": 12, "sha256": "e" * 64},
]


PACKAGE_ARN = "arn:aws:sagemaker:us-east-1:000000000000:model-package/small/7"


def api_response(model: str, batch_id: str, **provenance: Any) -> dict[str, Any]:
    """Return an API response about one entity."""
    return {
        "model": model,
        "entity_id": "a",
        "prediction": {"entity_id": "a", "score": 1.5},
        "provenance": {
            "batch_id": batch_id,
            "partition": "2013-02-01",
            "model_version": "v1",
            "model_package_version": 7,
            "published_at": "2026-11-23T01:02:03Z",
            "sequence": 1,
            **provenance,
        },
        "enrichment": {},
    }


def publish_successor(small_model: SmallModel, command_line: CommandLine) -> tuple[str, str]:
    """Publish a batch that was scored from an earlier one, and return both ids, the earlier first."""
    name = small_model.name
    earlier = small_model.verified_batch(partition="2013-01-31")
    run, training = "20261122T000000Z-0000000f", "train-small-20261121T000000Z-0000000e-1"
    batch_id = small_model.batch_id()
    inputs = Inputs(
        (InputObject(f"features/{name}/dt=2013-02-01/run={run}/features.parquet", "b" * 64),),
        InputObject(f"models/{name}/candidates/{training}/output/model.tar.gz", "c" * 64, "acme-models"),
    )
    small_model.verified_batch(
        batch_id=batch_id,
        inputs=inputs,
        producer=Producer(job_name("score", name, batch_id, 1), "arn:aws:sagemaker:us-east-1:0:x"),
        previous_batch_id=earlier,
        model_package=ModelPackage(PACKAGE_ARN, 7, "v1", "anna"),
    )
    assert command_line("publish", name, batch_id).status == 0
    return earlier, batch_id


@on_the_stack
def test_response_is_traced_to_everything_it_came_from(
    small_model: SmallModel, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs, versions, earlier batches, jobs and publications are shown, and unknown facts are marked."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    earlier, batch_id = publish_successor(small_model, command_line)
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(api_response(small_model.name, batch_id)))
    assert command_line.json("explain", str(file)).document["inputs"]["sources"] is None
    index = f"features/{small_model.name}/dt=2013-02-01/run=20261122T000000Z-0000000f/features.json"
    small_model.platform.bucket.put(index, json.dumps({"sources": SOURCES}).encode())
    told = command_line.json("explain", str(file))
    found = told.document
    assert [(each["source"], each["key"], each["version"]) for each in found["inputs"]["sources"]] == [
        ("orders", "raw/orders/a.parquet", None),
        ("sales", "lake/sales", 7),
        ("rates", None, None),
    ]
    assert told.status == 0, told.err
    assert (found["model"], found["batch_id"], found["release_state"]) == (small_model.name, batch_id, "live")
    assert (found["model_version"], found["code_version"]) == ("v1", "c1")
    assert found["answer"]["agrees"] is True
    assert found["model_package"] == {"version": 7, "approved_by": "anna", "arn": PACKAGE_ARN}
    shown = command_line.json("show", small_model.name, batch_id).document
    assert shown["manifest"]["model_package"] == found["model_package"]
    assert [each["model_package_version"] for each in found["previous_batches"]] == [None]
    listed = command_line.json("batches", small_model.name).document["batches"]
    assert {each["batch_id"]: each["model_package_version"] for each in listed} == {
        earlier: None,
        batch_id: 7,
    }
    assert found["inputs"]["features"][0]["sha256"] == "b" * 64
    assert found["inputs"]["model_artifact"]["sha256"] == "c" * 64
    assert found["inputs"]["model_artifact"]["bucket"] == "acme-models"
    assert [(each["batch_id"], each["model_version"]) for each in found["previous_batches"]] == [
        (earlier, "v1")
    ]
    jobs = {job["step"]: job for job in found["jobs"]}
    assert jobs["features"]["name"] == job_name("features", small_model.name, "20261122T000000Z-0000000f", 1)
    assert jobs["train"]["name"] == "train-small-20261121T000000Z-0000000e-1"
    assert jobs["score"]["name"] == job_name("score", small_model.name, batch_id, 1)
    assert {job["status"] for job in found["jobs"]} == {"unknown"}
    for job in found["jobs"]:
        assert job["console"].startswith("https://us-east-1.console.aws.amazon.com/")
        assert job["name"] in job["console"]
    assert [(each["sequence"], each["action"]) for each in found["publications"]] == [(1, "publish")]
    assert found["dagster_unknown"] == "set DAGSTER_HOME to see Dagster's runs and checks"
    assert (found["cost"]["estimated_total"], found["cost"]["is_complete"]) == (None, False)
    # A batch id is enough to find its model.
    text = command_line("explain", batch_id).out
    assert "total of the known costs" in text
    for shown in ("s3://lake/raw/orders/a.parquet", "d41d8c", "query 01b2-c3", "12 rows"):
        assert shown in text
    assert "unknown" in text


@on_the_stack
def test_response_that_contradicts_the_registry_is_reported(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response from standard input gets status 1 and a list of its differences from the records."""
    earlier, batch_id = publish_successor(small_model, command_line)
    command_line("publish", small_model.name, earlier)
    forged = api_response(small_model.name, batch_id, model_version="v2", model_package_version=8, sequence=2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(forged).encode())))
    told = command_line.json("explain", "-")
    assert told.status == 1
    assert told.document["answer"]["differences"] == [
        "it has model version v2, but the manifest has v1",
        "it has registered version 8, but the manifest has 7",
        "publication 2 did not make this batch live",
    ]
    assert f"{small_model.name}/{batch_id}: the answer contradicts the records" in told.err


@on_the_stack
def test_missing_manifest_does_not_hide_the_rest(small_model: SmallModel, command_line: CommandLine) -> None:
    """The manifest is named as missing, and the registry's publications are still shown."""
    _, batch_id = publish_successor(small_model, command_line)
    record = small_model.record(batch_id)
    platform = small_model.platform
    platform.client("s3").delete_object(Bucket=platform.settings.data_bucket, Key=record.manifest_key)
    told = command_line.json("explain", small_model.name, batch_id)
    found = told.document
    assert (told.status, found["model_version"], found["previous_batches"]) == (0, None, [])
    assert record.manifest_key in found["manifest_trouble"]
    assert found["publications"]


@on_the_stack
def test_argument_that_names_nothing_is_a_readable_error(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """A missing file, an unknown batch or too many arguments give status 1 and a message."""
    missing = command_line("explain", "no-such-answer.json")
    assert (missing.status, missing.out) == (1, "")
    assert "no-such-answer.json cannot be read" in missing.err
    for words in (["20261123T010203Z-ffffffff"], [small_model.name, "20261123T010203Z-ffffffff"]):
        unknown = command_line("explain", *words)
        assert unknown.status == 1
        assert "20261123T010203Z-ffffffff" in unknown.err
        assert "mlpipe batches" in unknown.err
    wordy = command_line("show", small_model.name, "20261123T010203Z-ffffffff", "more")
    assert (wordy.status, wordy.out) == (1, "")
    assert "3 arguments do not name a batch" in wordy.err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model":"tides","provenance":{}}',
        b'{"model":"tides","provenance":{"batch_id":"x"}}',
        b'{"model":"Tides","provenance":{"batch_id":"20261123T010203Z-ffffffff"}}',
        b'{"model":7,"provenance":{"batch_id":"20261123T010203Z-ffffffff"}}',
    ],
)
def test_invalid_response_is_refused(content: bytes) -> None:
    """Whatever the file contains, the message says what to give instead."""
    with pytest.raises(UnreadableResponseError, match="Give a JSON answer of the API"):
        parse_response(content)


def test_dagster_runs_and_checks_are_found_by_tags() -> None:
    """Runs of the sensor and by hand count, with the checks of the model's own assets only."""

    @dg.asset_check(asset=dg.AssetKey(["tides", "dynamodb"]), name="adds_up")
    def own() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.ERROR, description="2 rows lack"
        )

    @dg.asset_check(asset=dg.AssetKey(["winds", "dynamodb"]), name="adds_up")
    def others() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.Definitions(
        asset_checks=[own, others],
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())],
    ).resolve_job_def("checks")
    with dg.DagsterInstance.ephemeral() as instance:
        by_sensor = job.execute_in_process(instance=instance, tags={MODEL_TAG: "tides", BATCH_TAG: "b1"})
        by_hand = job.execute_in_process(instance=instance, tags={selected_batch_tag("tides"): "b1"})
        job.execute_in_process(instance=instance, tags={MODEL_TAG: "winds", BATCH_TAG: "b1"})
        found = batch_history(instance, "tides", "b1")
    assert [(run["run_id"], run["status"]) for run in found.runs] == [
        (by_sensor.run_id, "success"),
        (by_hand.run_id, "success"),
    ]
    assert [(check["asset"], check["passed"], check["description"]) for check in found.checks] == [
        ("tides/dynamodb", False, "2 rows lack")
    ] * 2


def test_total_cost_leaves_out_training_and_unknown_costs() -> None:
    """Training serves many batches, and an unknown cost makes the total incomplete."""
    jobs = [
        {"step": "train", "name": "t", "run_id": None, "estimated_cost_usd": 9.0},
        {"step": "score", "name": "s", "run_id": None, "estimated_cost_usd": 0.25},
        {"step": "load", "name": "l", "run_id": "jr_1", "estimated_cost_usd": 0.5},
    ]
    loads = [{"attempt": 1, "write_units": 1_000_000}]
    cost = cost_document(jobs, loads, Prices())
    assert (cost["estimated_total"], cost["is_complete"]) == (1.375, True)
    assert [item["what"] for item in cost["items"]] == ["score s", "load jr_1", "DynamoDB writes of load 1"]
    partly = cost_document(jobs, [{"attempt": 1, "write_units": None}], Prices())
    assert (partly["estimated_total"], partly["is_complete"]) == (0.75, False)
    assert cost_document([], [], Prices())["estimated_total"] is None
