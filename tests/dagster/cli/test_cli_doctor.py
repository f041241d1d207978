"""`mlpipe doctor` on a small deployment, at first healthy and then with various faults."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_queues import ensure_queue
from infra.local.provisioning.provisioned_storage import ensure_table
from prediction_contract.jobs.verdict import REJECTED
from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.naming.s3_layout import done_key, shadow_prefix
from prediction_contract.registry.load_rules import claim_load, confirm_claim
from tests.dagster.versions.registered_packages import RegisteredPackages
from tests.dagster.versions.small_retraining import SmallRetraining

if TYPE_CHECKING:
    from tests.dagster.cli_calls import CommandLine, Told
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack

CHAMPION = 1


@pytest.fixture(autouse=True)
def own_code(small_model: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the stack's code prefix: its jobs run another project's code, which would be a finding."""
    assert small_model
    monkeypatch.setenv("MLPIPE_SAGEMAKER_CODE_PREFIX", "code/sagemaker_scripts/own/")


@pytest.fixture
def registered(small_model: SmallModel) -> RegisteredPackages:
    """The model packages of the small model, with one registered version."""
    made = RegisteredPackages(small_model.platform, small_model.name)
    assert made.register("exec1") == CHAMPION
    return made


@pytest.fixture
def deployment(
    small_model: SmallModel, registered: RegisteredPackages, command_line: CommandLine
) -> SmallModel:
    """The small model on a stage with queues, an online table, a pipeline and a champion."""
    platform, names = small_model.platform, small_model.platform.settings.deployment
    for definition in (
        resource_definitions.done_file_queue(names),
        resource_definitions.dead_letter_queue(names),
        resource_definitions.model_events_queue(names),
    ):
        ensure_queue(platform.client("sqs"), definition)
    ensure_table(platform.client("dynamodb"), resource_definitions.online_table(names, small_model.name))
    SmallRetraining(registered, is_bare=True)
    assert command_line("promote", small_model.name, str(CHAMPION)).status == 0
    return small_model


def findings(told: Told) -> list[tuple[str, str, str | None]]:
    """Return severity, topic and batch of each finding."""
    return [(each["severity"], each["topic"], each["batch_id"]) for each in told.document["findings"]]


def fresh_batch(deployment: SmallModel, intent: str) -> str:
    """Return a batch id minted just now, since a batch that waits for long would be a finding."""
    return mint_batch_id(deployment.name, "2013-02-01", intent, datetime.now(UTC))


def test_healthy_deployment_has_no_findings(deployment: SmallModel, command_line: CommandLine) -> None:
    """With a published batch the status is 0, and text and JSON report a healthy deployment."""
    batch_id = deployment.verified_batch(batch_id=fresh_batch(deployment, "healthy"))
    assert command_line("publish", deployment.name, batch_id).status == 0
    told = command_line.json("doctor", deployment.name)
    assert (told.status, told.document) == (
        0,
        {
            "is_healthy": True,
            "looked_at": [deployment.name],
            "counts": {"error": 0, "warning": 0, "note": 0},
            "findings": [],
        },
    )
    assert "healthy  yes" in command_line("doctor").out


def test_missing_champion_is_a_note(deployment: SmallModel, command_line: CommandLine) -> None:
    """After the demotion of the only version, the finding names the command that trains a new one."""
    assert command_line("demote", deployment.name).status == 0
    (_, finding) = command_line.json("doctor", deployment.name).document["findings"]
    assert (finding["severity"], finding["topic"]) == ("note", "champion")
    assert finding["what"] == "No version is the champion, so nothing can be scored"
    assert f"mlpipe retrain {deployment.name}" in finding["remedy"]


def test_missing_resources_are_errors(small_model: SmallModel, command_line: CommandLine) -> None:
    """A missing queue, table or pipeline has a remedy and does not stop the other checks."""
    told = command_line.json("doctor", small_model.name)
    assert told.status == 1
    assert findings(told) == [
        ("error", "tables", None),
        ("error", "queues", None),
        ("error", "versions", None),
        ("note", "pointers", None),
    ]
    assert all(each["remedy"] for each in told.document["findings"])


def test_missing_settings_are_the_only_finding(
    deployment: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else can be checked without them."""
    monkeypatch.delenv("MLPIPE_ACCOUNT_ID")
    told = command_line.json("doctor", deployment.name)
    assert (told.status, findings(told)) == (1, [("error", "settings", None)])
    assert "MLPIPE_ACCOUNT_ID" in told.document["findings"][0]["what"]


def test_unreachable_snowflake_is_an_error(
    deployment: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other checks still run."""
    monkeypatch.setenv("SNOWFLAKE_PORT", "1")
    monkeypatch.setenv("SNOWFLAKE_LOGIN_TIMEOUT", "2")
    told = command_line.json("doctor", deployment.name)
    assert told.status == 1
    assert findings(told) == [("error", "snowflake", None), ("note", "pointers", None)]


def test_dead_letters_and_lagging_projection_are_errors(
    deployment: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor could not handle a message, and Snowflake lacks a publication until the next change."""
    batch_id = deployment.verified_batch(batch_id=fresh_batch(deployment, "lagging"))
    with monkeypatch.context() as down:
        down.setenv("SNOWFLAKE_PORT", "1")
        down.setenv("SNOWFLAKE_LOGIN_TIMEOUT", "2")
        assert command_line("publish", deployment.name, batch_id).status == 0
    sqs = deployment.platform.client("sqs")
    queue = deployment.platform.settings.deployment.dead_letter_queue
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody="not a done file")
    told = command_line.json("doctor", deployment.name)
    assert told.status == 1
    assert findings(told) == [("error", "queues", None), ("error", "projection", None)]
    # The next change also projects the missing publication.
    command_line("hold", deployment.name)
    command_line("hold", deployment.name, "--release")
    assert findings(command_line.json("doctor", deployment.name)) == [("error", "queues", None)]


def test_claim_of_an_unknown_job_run_is_a_warning(deployment: SmallModel, command_line: CommandLine) -> None:
    """Glue has forgotten the job run, so the load that holds the claim cannot be running."""
    batch_id = deployment.registered_batch(batch_id=fresh_batch(deployment, "claimed"))
    registry, now = deployment.platform.registry, datetime.now(UTC)
    registry.carry_out(
        lambda: claim_load(
            deployment.record(batch_id), token="t", confirm_by=now + timedelta(hours=1), now=now
        )
    )
    registry.carry_out(
        lambda: confirm_claim(deployment.record(batch_id), token="t", job_run_id="jr_" + "0" * 64)
    )
    told = command_line.json("doctor", deployment.name)
    assert ("warning", "claims", batch_id) in findings(told)
    assert "forgotten" in told.document["findings"][0]["what"]


def test_staging_table_and_unnoticed_done_files_are_found(
    deployment: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed load left the table; the done files were missed by the sensor or have no declared model."""
    stem = f"{deployment.name.upper()}_STAGING_20261110T010203Z_00000001_AAAAAAAAAAAA"
    arguments: dict[str, Any] = deployment.platform.settings.connector_arguments()
    with closing(snowflake.connector.connect(**arguments)) as connection, connection.cursor() as cursor:
        cursor.execute(f'CREATE OR REPLACE TRANSIENT TABLE "{stem}" (A NUMBER(19,0))')
    manifest = deployment.deliver(deployment.manifest(fresh_batch(deployment, "unnoticed")))
    told = command_line.json("doctor", deployment.name)
    assert findings(told) == [("warning", "staging", None), ("note", "pointers", None)]
    # An hour later the sensor should have seen it.
    monkeypatch.setattr("mlpipe_dagster.cli.health.model_health.WAITS_TOO_LONG", timedelta(seconds=-60))
    later = command_line.json("doctor", deployment.name)
    assert ("warning", "done_files", manifest.batch_id) in findings(later)
    key = done_key("undeclared", fresh_batch(deployment, "undeclared"))
    deployment.platform.bucket.put(key, manifest.to_bytes())
    strange = command_line.json("doctor", deployment.name).document["findings"]
    assert [each["topic"] for each in strange if each["model"] == "undeclared"] == ["done_files"]


def test_lost_champion_and_idle_challenger_are_found(
    deployment: SmallModel, registered: RegisteredPackages, command_line: CommandLine
) -> None:
    """The champion's file is gone, SageMaker shows it as rejected, and the challenger scores nothing."""
    challenger = registered.register("exec2")
    registered.follow()
    told = command_line.json("doctor", deployment.name)
    assert findings(told) == [("note", "pointers", None)]
    record = registered.record(CHAMPION)
    deployment.platform.bucket.delete([record.artifact_key])
    registered.decide(CHAMPION, REJECTED)
    assert command_line("challenge", deployment.name, str(challenger)).status == 0
    for number in range(3):
        fresh = fresh_batch(deployment, f"unchallenged {number}")
        deployment.registered_batch(partition="2013-02-01", batch_id=fresh)
    told = command_line.json("doctor", deployment.name)
    assert told.status == 1
    topics = [(each["severity"], each["topic"]) for each in told.document["findings"]]
    assert topics.count(("error", "champion")) == 1
    assert topics.count(("warning", "champion")) == 1
    assert topics.count(("warning", "challenger")) == 1
    deployment.platform.bucket.put(
        f"{shadow_prefix(deployment.name, challenger, '2013-02-01')}part.parquet", b"scored"
    )
    told = command_line.json("doctor", deployment.name)
    assert not any(each["topic"] == "challenger" for each in told.document["findings"])
