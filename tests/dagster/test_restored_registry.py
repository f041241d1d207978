"""The registry is restored from a backup, and the runbook's commands bring all readers back in line."""

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
    """Copy the registry into another table, as a restore does, and return the table's name."""
    dynamodb, registry = small.platform.client("dynamodb"), small.platform.settings.deployment.registry_table
    name = f"{registry}{suffix}"
    ensure_table(dynamodb, TableDefinition(name, partition_key="model", sort_key="record"))
    for item in dynamodb.scan(TableName=registry, ConsistentRead=True)["Items"]:
        dynamodb.put_item(TableName=name, Item=item)
    return name


def restore(small: SmallModel, restored: str, model: str | None = None) -> list[str]:
    """Restore the registry, and return the changes as the command prints them."""
    dynamodb, registry = small.platform.client("dynamodb"), small.platform.settings.deployment.registry_table
    changes = differences(dynamodb, registry, restored, model)
    write(dynamodb, registry, changes)
    return [str(change) for change in changes]


def shown_by_snowflake(small: SmallModel) -> str:
    """Return the batch that Snowflake's newest publication names."""
    with Warehouse(platform=small.platform).session() as session:
        rows = session.rows(
            f'SELECT MAX_BY("BATCH_ID", "SEQUENCE") FROM "PUBLICATIONS" WHERE "MODEL" = \'{small.name}\''
        )
    return str(rows[0][0])


def test_pointers_are_restored_after_their_targets(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """Records newer than the backup are deleted, and restoring again changes nothing."""
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


def test_lost_batch_is_registered_again_and_published_with_a_new_number(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """Doctor reports it, its done file registers it, and its publication exceeds Snowflake's numbers."""
    first = small_model.verified_batch(partition="2013-01-31")
    command_line.json("publish", small_model.name, first)
    restored = backup(small_model)
    second = small_model.verified_batch()
    command_line.json("publish", small_model.name, second)
    restore(small_model, restored, small_model.name)
    found = command_line.json("doctor", small_model.name).document["findings"]
    assert "which the registry does not know" in " ".join(each["what"] for each in found)
    # `mlpipe load` begins like this; tests/glue covers the load itself.
    platform, key = small_model.platform, done_key(small_model.name, second)
    done_file = register_done_file(platform.bucket, platform.registry, key, redelivered=True)
    assert (done_file.refusal, small_model.record(second).load_state) == (None, LoadState.DONE)
    assert small_model.verify(second) == second
    told = command_line.json("publish", small_model.name, second)
    assert (told.status, told.document["sequence"]) == (0, 3)
    assert projection(small_model) == [(1, first), (2, second), (3, second)]


def test_hold_and_release_bring_snowflake_back_to_the_live_batch(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """Publishing the live batch again adds no number, but a hold and its release exceed Snowflake's."""
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


def test_concurrent_write_is_not_overwritten(small_model: SmallModel, command_line: CommandLine) -> None:
    """Each record is written only if it is unchanged since it was compared."""
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


def test_restore_command_writes_only_with_write_option(
    small_model: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without it the changes are printed; a missing table is named in the error."""
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
