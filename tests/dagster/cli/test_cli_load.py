"""`mlpipe load` loads any done file, however old, by its key, its address or its batch id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.load import LoadRunError, asked_done_file, named_done_file, run_load
from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.loading.load_coordinator import BatchNotLoadableError, LoadCoordinator
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.s3_layout import parse_done_key
from prediction_contract.registry.records import LoadState
from tests.dagster.cli_calls import CommandLine
from tests.dagster.load_job_on_glue import Job, load_script
from tests.dagster.small_model import SmallModel
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


KEY = "done/2026-11-23/things/20261123T010203Z-00000001.json"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance whose runs the command starts."""
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.mark.parametrize("text", [KEY, f"s3://bucket/{KEY}"])
def test_done_file_is_named_by_key_or_address(text: str) -> None:
    """Both give the date, the model and the batch id."""
    assert named_done_file(text, "bucket") == ("2026-11-23", "things", "20261123T010203Z-00000001")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"s3://another/{KEY}", "'another'.*bucket"),
        ("s3://bucket/predictions/things/part.json", "not the key of a done file"),
        ("things", "not the key of a done file"),
        ("done/2026-11-22/things/20261123T010203Z-00000001.json", "not the key of a done file"),
    ],
)
def test_foreign_or_malformed_key_is_refused(text: str, told: str) -> None:
    """The message says whether the bucket or the key is wrong."""
    with pytest.raises(InvalidNameError, match=told):
        named_done_file(text, "bucket")


@pytest.mark.stack
def test_registered_batch_is_named_by_its_id(small_model: SmallModel, command_line: CommandLine) -> None:
    """Users need not build the key of its done file, and an unknown id is an error."""
    command_line.declare(small_model.name)
    batch_id = small_model.verified_batch()
    access = DeploymentAccess(command_line.project)
    assert asked_done_file(batch_id, access)[1:] == (small_model.name, batch_id)
    told = command_line("load", "20261123T010203Z-0000ffff")
    assert told.status == 1
    assert "No declared model has a batch with this id" in told.err


def test_stopped_stack_is_a_readable_error(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the address and the command that starts the local stack."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    command_line.declare("things")
    told = command_line("batches", "things")
    assert told.status == 1
    assert "127.0.0.1:1" in told.err
    assert "`mlpipe up`" in told.err


@pytest.mark.stack
def test_unknown_model_is_named(
    small_model: SmallModel, command_line: CommandLine, instance: dg.DagsterInstance
) -> None:
    """The status is 1, the message names the model, and no run is started."""
    manifest = small_model.manifest()
    told = command_line("load", manifest.key.replace(small_model.name, "unknown"))
    assert told.status == 1
    assert "No model unknown" in told.err
    assert instance.get_runs() == []


def load(small: SmallModel, key: str, *, again: bool = False) -> dict[str, object]:
    """Load as the command does, with the small model's definitions."""
    model = pipeline_definitions(small.declaration)
    definitions = platform_definitions(model)
    return run_load(
        small.platform, parse_done_key(key), EXAMPLE, again=again, definitions=model.merge(model, definitions)
    )


@pytest.mark.stack
def test_invalid_done_file_is_refused(small_model: SmallModel, instance: dg.DagsterInstance) -> None:
    """The message names the batch, the registry records the refusal, and no run is started."""
    manifest = small_model.manifest(small_model.batch_id("20260101"))
    small_model.platform.bucket.put(manifest.key, b"{")
    with pytest.raises(LoadRunError, match=rf"{manifest.batch_id}.*refused"):
        load(small_model, manifest.key)
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED
    assert instance.get_runs() == []


@pytest.mark.stack
def test_undeclared_partition_is_refused(small_model: SmallModel, instance: dg.DagsterInstance) -> None:
    """The command refuses it as the sensor does, and starts no run."""
    manifest = small_model.deliver(small_model.manifest(partition="2020-01-01"))
    with pytest.raises(LoadRunError, match="2020-01-01 is not a partition"):
        load(small_model, manifest.key)
    assert instance.get_runs() == []


@pytest.mark.stack
def test_load_without_a_dagster_instance_is_refused(
    small_model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DAGSTER_HOME, the run could not be found afterwards."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    manifest = small_model.deliver(small_model.manifest())
    with pytest.raises(LoadRunError, match="DAGSTER_HOME"):
        load(small_model, manifest.key)


@pytest.mark.stack
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.usefixtures("instance")
def test_failed_job_shows_its_reason(small_model: SmallModel, *, again: bool) -> None:
    """The message contains the job's own words, and the batch is refused."""
    Job(small_model.platform).define(load_script("refuse"))
    manifest = small_model.deliver(small_model.manifest())
    with pytest.raises(LoadRunError, match="part missing"):
        load(small_model, manifest.key, again=again)
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


@pytest.mark.stack
def test_again_requests_a_load_above_the_last_attempt(
    small_model: SmallModel, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt number is in the run's config, so that retries do not load the batch once more."""
    asked: list[int] = []

    def run(_load: LoadCoordinator, _context: object, _record: object, *, above_attempt: int) -> None:
        asked.append(above_attempt)
        raise BatchNotLoadableError("Enough was seen", remedy="None is needed")

    monkeypatch.setattr(LoadCoordinator, "run", run)
    Job(small_model.platform).define(load_script("complete"))
    manifest_key = small_model.record(small_model.verified_batch()).manifest_key
    with pytest.raises(LoadRunError, match="Enough was seen"):
        load(small_model, manifest_key, again=True)
    assert asked == [1]
    (launched,) = instance.get_runs()
    config: Any = launched.run_config
    assert config["ops"][f"{small_model.name}__load"]["config"]["above_attempt"] == 1
