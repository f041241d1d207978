"""The registry is set back to what a backup knew, and the runbook's commands bring all readers in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.resource_definitions import TableDefinition
from infra.local.provisioning.provisioned_storage import ensure_table
from infra.registry_copy import differences, main, write
from mlpipe_dagster.done_files.registration import register_done_file
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.records import LoadState
from tests.dagster.publication.test_publication_asset import projection
from tests.infra.example_stages import stage_text
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dagster.cli_calls import CommandLine
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack


def backup(small: SmallModel, suffix: str = "-restored") -> str:
    """Copy the registry as it is into a table of its own, as a restore does, and return its name."""
    dynamodb, registry = small.platform.client("dynamodb"), small.platform.settings.deployment.registry_table
    name = f"{registry}{suffix}"
    ensure_table(dynamodb, TableDefinition(name, partition_key="model", sort_key="record"))
    for item in dynamodb.scan(TableName=registry, ConsistentRead=True)["Items"]:
        dynamodb.put_item(TableName=name, Item=item)
    return name


def restore(small: SmallModel, restored: str, model: str | None = None) -> list[str]:
    """Set the registry back, and return what was changed, as the command says it."""
    dynamodb, registry = small.platform.client("dynamodb"), small.platform.settings.deployment.registry_table
    changes = differences(dynamodb, registry, restored, model)
    write(dynamodb, registry, changes)
    return [str(change) for change in changes]


def shown_by_snowflake(small: SmallModel) -> str:
    """Return the batch that the live view shows."""
    with Warehouse(platform=small.platform).session() as session:
        rows = session.rows(
            f'SELECT MAX_BY("BATCH_ID", "SEQUENCE") FROM "PUBLICATIONS" WHERE "MODEL" = \'{small.name}\''
        )
    return str(rows[0][0])


def test_records_are_set_back_pointers_after_what_they_point_at(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """Nothing is left of what came after the backup, and doing it again changes nothing."""
    first = small_model.verified_batch(partition="2013-01-31")
    assert command_line.json("publish", small_model.name, first).status == 0
    restored = backup(small_model)
    second = small_model.verified_batch()
    assert command_line.json("publish", small_model.name, second).status == 0
    changes = restore(small_model, restored)
    verbs = [change.split()[0] for change in changes]
    assert verbs == sorted(verbs)
    assert f"change {small_model.name} batch#{first}" in changes
    assert f"delete {small_model.name} batch#{second}" in changes
    pointer = changes.index(f"change {small_model.name} live#{small_model.platform.settings.deployment.home}")
    assert verbs[pointer + 1 :] == ["delete"] * (len(changes) - pointer - 1)
    assert command_line.json("batches", small_model.name).document["live"]["batch_id"] == first
    assert restore(small_model, restored) == []


def test_a_forgotten_batch_comes_back_by_its_done_file_and_is_published_above_snowflake(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """What is missing is named by doctor, registered by its done file, and gets a number nobody has seen."""
    first = small_model.verified_batch(partition="2013-01-31")
    command_line.json("publish", small_model.name, first)
    restored = backup(small_model)
    second = small_model.verified_batch()
    command_line.json("publish", small_model.name, second)
    restore(small_model, restored, small_model.name)
    found = command_line.json("doctor", small_model.name).document["findings"]
    assert "which the registry does not know" in " ".join(each["what"] for each in found)
    # As `mlpipe load` begins; the load itself is tests/glue's.
    platform, key = small_model.platform, done_key(small_model.name, second)
    done_file = register_done_file(platform.bucket, platform.registry, key, redelivered=True)
    assert (done_file.refusal, small_model.record(second).load_state) == (None, LoadState.DONE)
    assert small_model.verify(second) == second
    told = command_line.json("publish", small_model.name, second)
    assert (told.status, told.document["sequence"]) == (0, 3)
    assert projection(small_model) == [(1, first), (2, second), (3, second)]


def test_where_the_restored_live_batch_is_right_a_hold_brings_snowflake_back_to_it(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """It is live, and publishing it again adds no number; a hold and its release number above Snowflake's."""
    first = small_model.verified_batch(partition="2013-01-31")
    command_line.json("publish", small_model.name, first)
    restored = backup(small_model)
    second = small_model.verified_batch()
    command_line.json("publish", small_model.name, second)
    restore(small_model, restored)
    assert shown_by_snowflake(small_model) == second
    told = command_line.json("publish", small_model.name, first)
    assert (told.status, told.document["sequence"]) == (0, 1)
    assert shown_by_snowflake(small_model) == second
    for option in ((), ("--release",)):
        assert command_line.json("hold", small_model.name, *option).status == 0
    assert shown_by_snowflake(small_model) == first
    assert [sequence for sequence, _ in projection(small_model)] == [1, 2, 3, 4]


def test_who_writes_meanwhile_is_not_overwritten(small_model: SmallModel, command_line: CommandLine) -> None:
    """Each record is written on condition that it is as it was seen."""
    batch_id = small_model.verified_batch()
    restored = backup(small_model)
    command_line.json("hold", small_model.name)
    dynamodb, registry = (
        small_model.platform.client("dynamodb"),
        small_model.platform.settings.deployment.registry_table,
    )
    changes = differences(dynamodb, registry, restored)
    command_line.json("publish", small_model.name, batch_id)
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        write(dynamodb, registry, changes)
    assert command_line.json("batches", small_model.name).document["live"]["batch_id"] == batch_id


def test_the_command_only_tells_unless_it_is_told_to_write(
    small_model: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It prints a line for each record; a table that is not there is an error in words."""
    deployment = small_model.platform.settings.deployment
    zones = [f"{deployment.home}{zone}" for zone in "ab"]

    def own(members: dict[str, Any]) -> None:
        members["account_id"] = deployment.account_id
        members["regions"] = [{"name": deployment.home, "availability_zones": zones}]

    project = new_project(tmp_path / "acme")
    project.stages_file.write_text(stage_text(own, name=deployment.stage))
    monkeypatch.setenv("MLPIPE_PROJECT", str(project.root))
    restored = backup(small_model)
    small_model.registered_batch()
    assert main([deployment.stage, "--from", restored]) == 0
    told = capsys.readouterr()
    assert (told.out.split()[:2], "--write" in told.err) == (["delete", small_model.name], True)
    assert main([deployment.stage, "--from", restored, "--write"]) == 0
    assert "1 changes" in capsys.readouterr().err
    assert main([deployment.stage, "--from", f"{restored}-not"]) == 1
    assert f"{restored}-not" in capsys.readouterr().err
