"""The retention sensor requests at most one run per model and day, which reports what it freed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.asset_names import SNOWFLAKE_POOL
from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.retention.delta_history import DeltaHistory, DeltaRemovalError
from mlpipe_dagster.retention.retention_sensor import (
    RetentionCursor,
    retention_job,
    retention_sweep,
    retention_tick,
)
from prediction_contract.errors import RegistryUnavailableError
from prediction_contract.registry.retention_rules import clear, retire
from prediction_contract.stores.delta_table import VACUUM_AFTER
from tests.dagster.job_steps import log_lines
from tests.dagster.loaded_model import COLUMNS, LoadedModel
from tests.dagster.publication.test_publication_interleavings import HOME, person, publisher
from tests.dagster.small_model import declaration, now
from tests.dagster.swept_model import LATER, WHOLE, Holdings, SweptModel

if TYPE_CHECKING:
    from datetime import datetime

    from mlpipe_dagster.resources.platform import Platform
    from model_declaration.declaration import ModelDeclaration
    from tests.dagster.small_model import SmallModel


def look(
    small: SmallModel, cursor: str | None, moment: datetime, *others: str, **named: Any
) -> dg.SensorResult:
    """Run the sensor for the model and for others that have no batch."""
    models = [
        ServedModel(name=name, partitions=small.partitions, items_life=timedelta(days=90))
        for name in (small.name, *others)
    ]
    return retention_tick(cursor, small.platform, models, moment, **named)


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    """Return a tick's run requests."""
    return list(result.run_requests or ())


def released(small: SmallModel, count: int) -> list[str]:
    """Publish batches in the registry alone."""
    batches = [small.verified_batch(partition=f"2013-02-{day:02}") for day in range(1, count + 1)]
    for batch_id in batches:
        publisher(small).publish(batch_id, person(), "{}")
    return batches


def retired(small: SmallModel, batch_id: str, moment: datetime) -> None:
    """Retire and clear a batch at a moment."""
    registry = small.platform.registry
    registry.carry_out(
        lambda: retire(
            small.record(batch_id),
            token="t",
            run_id="run",
            home_region=HOME,
            regions=(),
            projected_sequence=99,
            now=moment,
        )
    )
    registry.carry_out(lambda: clear(small.record(batch_id), token="t", now=moment))


@pytest.mark.stack
def test_sensor_requests_one_run_per_day_if_a_batch_is_due(small_model: SmallModel) -> None:
    """Nothing is requested before, and the next day gets a new run in case the first one failed."""
    released(small_model, 3)
    assert look(small_model, None, now()).run_requests == []
    due = now() + LATER
    first = look(small_model, None, due)
    (wanted,) = requests(first)
    assert wanted.job_name == "retention"
    assert wanted.tags["mlpipe/model"] == small_model.name
    assert look(small_model, first.cursor, due).run_requests == []
    (again,) = requests(look(small_model, first.cursor, due + timedelta(days=1)))
    assert again.run_key != wanted.run_key


@pytest.mark.stack
def test_live_and_previous_batch_request_no_run(small_model: SmallModel) -> None:
    """No run starts for them however old they are, because it would find nothing to do."""
    released(small_model, 2)
    assert look(small_model, None, now() + 20 * LATER).run_requests == []


@pytest.mark.stack
def test_run_is_requested_to_vacuum_files_of_a_retired_batch(small_model: SmallModel) -> None:
    """It is due a week after the retirement, even if no other batch is due."""
    first, *_ = released(small_model, 3)
    moment = now() + LATER
    retired(small_model, first, moment)
    assert look(small_model, None, moment + timedelta(hours=1)).run_requests == []
    due = moment + VACUUM_AFTER + timedelta(hours=1)
    assert len(look(small_model, None, due).run_requests or ()) == 1
    assert look(small_model, None, due + timedelta(days=3)).run_requests == []


@pytest.mark.stack
@pytest.mark.parametrize("cursor", [None, "", "nonsense", "[]", '{"day": 1}'])
def test_lost_cursor_requests_the_same_run(small_model: SmallModel, cursor: str | None) -> None:
    """The run key is that of the day, so Dagster does not start a second sweep."""
    released(small_model, 3)
    due = now() + LATER
    assert [wanted.run_key for wanted in requests(look(small_model, cursor, due))] == [
        f"retention:{small_model.name}:{due.date()}"
    ]


@pytest.mark.stack
def test_slow_tick_continues_with_the_next_model(small_model: SmallModel) -> None:
    """Each tick examines at least one model, and the next one continues after it."""
    released(small_model, 3)
    moment = now() + LATER
    first = look(small_model, None, moment, "zz_later", seconds=-1)
    assert (len(first.run_requests or ()), RetentionCursor.parse(first.cursor).after) == (1, small_model.name)
    second = look(small_model, first.cursor, moment, "zz_later", seconds=-1)
    assert (second.run_requests, RetentionCursor.parse(second.cursor).after) == ([], "zz_later")


@pytest.mark.stack
@pytest.mark.parametrize(
    "unreadable",
    [
        {"record": {"S": "batch#20261101T010203Z-00000001"}},
        {
            "record": {"S": "batch#20261101T010203Z-00000001"},
            "batch_id": {"S": "20261101T010203Z-00000001"},
            "retain_until": {"S": "soon"},
        },
    ],
)
def test_unreadable_record_does_not_block_other_models(
    small_model: SmallModel, unreadable: dict[str, Any]
) -> None:
    """The damaged model gets an observation with the reason."""
    released(small_model, 3)
    damaged = "aa_damaged"
    small_model.platform.client("dynamodb").put_item(
        TableName=small_model.platform.settings.deployment.registry_table,
        Item={"model": {"S": damaged}, **unreadable},
    )
    seen = look(small_model, None, now() + LATER, damaged)
    assert [wanted.tags["mlpipe/model"] for wanted in requests(seen)] == [small_model.name]
    (told,) = seen.asset_events
    assert told.asset_key.path == [damaged, "publication"]
    assert "not_looked_at" in told.metadata


@pytest.mark.stack
def test_registry_outage_ends_the_tick(small_model: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick fails, so its cursor does not skip a model."""

    def refused(*_: Any, **__: Any) -> None:
        raise RegistryUnavailableError("DynamoDB throttles", remedy="Run the step again")

    monkeypatch.setattr(type(small_model.platform.registry), "batches", refused)
    with pytest.raises(RegistryUnavailableError):
        look(small_model, None, now())


@pytest.mark.stack
def test_requested_run_reports_what_it_freed(platform: Platform, model: ModelDeclaration) -> None:
    """Rows and bytes are shown at the batch's partition, totals at the publication."""
    swept = SweptModel(LoadedModel(platform, declaration(model.name, columns=COLUMNS)))
    first, previous, live = swept.released(3)
    swept.outlive(first)
    (wanted,) = requests(look(swept, None, now()))
    result = retention_job.execute_in_process(
        run_config=wanted.run_config, resources={"platform": platform, "warehouse": swept.warehouse}
    )
    events = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    of_batch, of_sweep = [event.asset_observation_data.asset_observation for event in events]
    assert of_batch.partition == "2013-02-01"
    assert of_batch.metadata["batch_id"].value == first
    assert of_batch.metadata["snowflake_rows_deleted"].value == 4
    assert int(str(of_batch.metadata["s3_bytes_freed"].value)) > 0
    assert of_sweep.metadata["batches_retired"].value == 1
    assert of_sweep.metadata["delta_files_removed"].value == 1
    # The first batch's Delta file stays a week longer for readers of earlier versions.
    assert [swept.holds(each) for each in (first, previous, live)] == [
        Holdings(rows=0, objects=0, delta_files=1),
        WHOLE,
        WHOLE,
    ]


@pytest.mark.stack
def test_failed_run_logs_its_deletions_and_the_next_one_finishes(
    platform: Platform, model: ModelDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Delta stays busy, the log names the rows already deleted and the sensor requests another run."""
    swept = SweptModel(LoadedModel(platform, declaration(model.name, columns=COLUMNS)))
    first, *_ = swept.released(3)
    swept.outlive(first)

    def sweep(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        return retention_job.execute_in_process(
            run_config={"ops": {"retire_batches": {"config": {"model": swept.name}}}},
            resources={"platform": platform, "warehouse": swept.warehouse},
            instance=instance,
            raise_on_error=False,
        )

    def overtaken(*_: Any) -> int:
        raise DeltaRemovalError("Other writers committed to the Delta table", remedy="Run the sweep again")

    with dg.DagsterInstance.ephemeral() as instance:
        with monkeypatch.context() as patched:
            patched.setattr(DeltaHistory, "remove", overtaken)
            assert not sweep(instance).success
        assert any(f"Retired {first}: deleted 4 rows and 2 objects" in line for line in log_lines(instance))
        assert swept.record(first).cleared_at is None
        assert [wanted.job_name for wanted in requests(look(swept, None, now()))] == ["retention"]
        assert sweep(instance).success
    assert swept.record(first).cleared_at is not None
    assert first not in swept.in_newest_version()


@pytest.mark.stack
def test_sweep_asks_dagster_whether_a_run_has_ended(platform: Platform, model: ModelDeclaration) -> None:
    """A run in progress has not ended; a failed one and one unknown to Dagster have."""
    with dg.DagsterInstance.ephemeral() as instance, Warehouse(platform=platform).quick_session() as session:
        config = {"ops": {"retire_batches": {"config": {"model": model.name}}}}
        running, ended = (
            instance.create_run_for_job(retention_job, run_config=config, status=status).run_id
            for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE)
        )
        sweep = retention_sweep(instance, platform, session, model=model.name, run_id="this-run")
        assert [sweep.has_ended(each) for each in (running, ended, "forgotten")] == [False, True, True]


def test_sensor_runs_by_default_in_snowflakes_pool() -> None:
    """Sweeps share the pool that limits other uses of Snowflake."""
    made = pipeline_definitions(declaration("things"))
    definitions = dg.Definitions.merge(made, platform_definitions(made))
    found = definitions.resolve_sensor_def("retention")
    assert found.default_status is dg.DefaultSensorStatus.RUNNING
    (node,) = definitions.resolve_job_def("retention").nodes
    assert isinstance(node.definition, dg.OpDefinition)
    assert node.definition.pool == SNOWFLAKE_POOL
