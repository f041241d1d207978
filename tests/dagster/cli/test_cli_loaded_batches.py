"""`mlpipe show`, `quarantine` and `diff` on batches that the load job wrote to both stores."""

from __future__ import annotations

import gzip
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts import aws_clients, settings
from glue_scripts.load_predictions import main as load_job
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.naming.s3_layout import batch_quarantine_prefix
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.dagster.cli.documented_answers import agree, documented
from tests.dagster.cli_calls import CommandLine
from tests.glue.load_platform import LoadPlatform
from tests.projects import new_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.glue.batch_builder import WrittenBatch
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack

FIRST, SECOND, UNLOADED = (f"20130201T0{hour}0000Z-0123abcd" for hour in (6, 7, 8))
COLUMNS = [
    {
        "name": column.name,
        "type": str(column.type),
        "nullable": column.nullable,
        "key": column.name == "flight",
    }
    for column in FULL_SCHEMA.columns
]
SECRET = "the-secret-carrier"


def flight(number: int, **values: Any) -> dict[str, Any]:
    """Return a row with its own key."""
    return {"flight": f"F-{number:03}", "seats": number, "probability": 0.25, "carrier": "AA", **values}


@dataclass(frozen=True)
class LoadedModel:
    """A model with two loaded batches and one whose load is under way.

    Attributes:
        platform: The platform that its batches are loaded into.
        environment: The environment variables of the stack.
    """

    platform: LoadPlatform
    environment: dict[str, str]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.platform.model


def _load(platform: LoadPlatform, written: WrittenBatch, *rules: ColumnCleaning) -> None:
    arguments = platform.claim(written, cleaning=Cleaning(rules).to_argument(), quarantine_rows=3)
    pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
    load_job([*pairs, "--JOB_RUN_ID", f"jr_{written.batch_id}"])


@pytest.fixture(scope="module")
def loaded(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Iterator[LoadedModel]:
    """Load two batches with the real job, the second with refused rows, and claim a third."""
    platform = LoadPlatform(local_stack.environment, aws_client, f"cli_{uuid.uuid4().hex[:8]}")
    platform.create_online_table()
    first = [flight(number, late=False, fare=Decimal("1.5")) for number in range(20)]
    second = [flight(number, late=number % 2 == 0, fare=Decimal("2.0")) for number in range(2, 22)]
    refused: list[dict[str, Any] | bytes] = [
        b'{"flight":"cut","carrier":"' + SECRET.encode(),
        {"flight": "typed", "seats": "many", "carrier": SECRET},
        b'{"flight":"\x1b[31mred","carier":"' + SECRET.encode() + b'"}',
    ]
    with pytest.MonkeyPatch.context() as patched:
        for name, value in local_stack.environment.items():
            if name.startswith("AWS_"):
                patched.setenv(name, value)
        patched.setattr(settings, "_has_spark", lambda _environment: False)
        _forget_clients()
        _load(platform, platform.builder.write(first, batch_id=FIRST))
        _load(platform, platform.builder.write([*second, *refused], batch_id=SECOND))
        platform.claim(platform.builder.write(first, batch_id=UNLOADED))
        yield LoadedModel(platform, dict(local_stack.environment))
        _forget_clients()


def _forget_clients() -> None:
    aws_clients.client.cache_clear()
    aws_clients.bulk_dynamodb.cache_clear()


@pytest.fixture
def run(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line in the stack's environment, with the model declared."""
    for name, value in loaded.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    made = CommandLine(new_project(tmp_path / "project"), capsys)
    made.declare(loaded.name, columns=COLUMNS)
    return made


def test_show_describes_the_load(loaded: LoadedModel, run: CommandLine) -> None:
    """Record, manifest, load reports and quarantine are shown, but not the claim's token."""
    told = run.json("show", loaded.name, SECOND)
    shown = told.document
    assert told.status == 0
    assert (shown["record"]["load_state"], shown["manifest"]["row_count"]) == ("loaded", 23)
    (load,) = shown["loads"]
    assert (load["status"], load["rows_dynamodb"], load["rows_snowflake"], load["rows_quarantined"]) == (
        "loaded",
        20,
        20,
        3,
    )
    assert load["write_units"] > 0
    assert shown["quarantine"]["rows"] == 3
    assert (shown["checks"], shown["checks_unknown"]) == (
        [],
        "set DAGSTER_HOME to see Dagster's runs and checks",
    )
    claimed = run.json("show", loaded.name, UNLOADED)
    token = loaded.platform.record(UNLOADED).claim_token
    assert token
    assert token not in claimed.out
    assert claimed.document["record"]["is_claimed"] is True
    assert claimed.document["loads"][0]["status"] == "under way"


def test_quarantine_names_part_line_and_reason_of_each_row(loaded: LoadedModel, run: CommandLine) -> None:
    """The rows themselves are shown only with --rows."""
    told = run.json("quarantine", loaded.name, SECOND)
    found = told.document
    assert (told.status, found["rows"], found["attempt"]) == (0, 3, 1)
    assert [(line["line"], line["reason"]) for line in found["lines"]] == [
        (21, "unparsable"),
        (22, "wrong_type"),
        (23, "unparsable"),
    ]
    assert {line["part"] for line in found["lines"]} == {
        f"predictions/{loaded.name}/json/dt=2013-02-01/batch={SECOND}/attempt=1/part-00000.jsonl.gz"
    }
    assert found["lines"][1]["what"] == "seats is a string, not a number"
    assert SECRET not in told.out
    assert SECRET in run.json("quarantine", loaded.name, SECOND, "--rows").out


def test_output_about_loaded_batches_has_the_documented_members(
    loaded: LoadedModel, run: CommandLine
) -> None:
    """This covers lines of a quarantine, columns of a diff, reports of loads and costs of jobs."""
    examples = documented()
    agree(examples["quarantine"], run.json("quarantine", loaded.name, SECOND).document)
    agree(examples["diff"], run.json("diff", loaded.name, FIRST, SECOND).document)
    agree(examples["show"], run.json("show", loaded.name, SECOND).document)
    agree(examples["explain"], run.json("explain", loaded.name, SECOND).document)


def test_quarantined_text_cannot_steer_the_terminal(loaded: LoadedModel, run: CommandLine) -> None:
    """An escape sequence in a refused row is printed in escaped form."""
    told = run("quarantine", loaded.name, SECOND, "--rows")
    assert "\x1b" not in told.out
    assert "\\x1b[31mred" in told.out


def test_quarantine_hides_values_of_sensitive_columns(loaded: LoadedModel, run: CommandLine) -> None:
    """--rows does not show them either, not even in lines that cannot be parsed."""
    columns = [{**column, "sensitive": column["name"] == "carrier"} for column in COLUMNS]
    run.declare(loaded.name, columns=columns)
    told = run.json("quarantine", loaded.name, SECOND, "--rows")
    assert SECRET not in told.out
    typed = told.document["lines"][1]["content"]
    assert '"carrier":"(sensitive)"' in typed
    assert '"seats":"many"' in typed


def test_quarantine_says_how_many_rows_are_not_shown(loaded: LoadedModel, run: CommandLine) -> None:
    """A limit is reported on standard error, and an attempt without a report is an error."""
    told = run.json("quarantine", loaded.name, SECOND, "--limit", "1")
    assert (told.status, len(told.document["lines"])) == (0, 1)
    assert "2 more rows are not shown" in told.err
    missing = run("quarantine", SECOND, "--attempt", "7")
    assert missing.status == 1
    assert f"{loaded.name}/{SECOND}: Load 7 has no report" in missing.err


def test_damaged_quarantine_is_a_readable_error(loaded: LoadedModel, run: CommandLine) -> None:
    """Bytes that are not gzip and lines that are not JSON do not end in a stack trace."""
    s3, bucket = loaded.platform.aws("s3"), loaded.platform.deployment.data_bucket
    (key,) = run.json("quarantine", SECOND).document["keys"]
    kept = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        for damaged in (b"no gzip", kept[:-12], gzip.compress(b"no JSON\n")):
            s3.put_object(Bucket=bucket, Key=key, Body=damaged)
            told = run("quarantine", SECOND)
            assert (told.status, told.out) == (1, "")
            assert f"{loaded.name}/{SECOND}: {key} is not what the load wrote" in told.err
    finally:
        s3.put_object(Bucket=bucket, Key=key, Body=kept)


def test_diff_counts_entities_and_values_in_the_warehouse(loaded: LoadedModel, run: CommandLine) -> None:
    """Added and gone entities are named, and each column shows how many values changed, and how far."""
    told = run.json("diff", loaded.name, FIRST, SECOND)
    found = told.document
    assert told.status == 0, told.err
    assert found["entities"] == {
        "before": 20,
        "after": 20,
        "common": 18,
        "added": 2,
        "gone": 2,
        "sample_added": ["F-020", "F-021"],
        "sample_gone": ["F-000", "F-001"],
    }
    columns = {column["name"]: column for column in found["columns"]}
    assert columns.keys() == {column.name for column in FULL_SCHEMA.columns} - {"flight"}
    assert columns["seats"]["changed"] == 0
    assert (columns["seats"]["mean_before"], columns["seats"]["mean_after"]) == (9.5, 11.5)
    assert columns["fare"]["changed"] == 18
    assert (columns["fare"]["mean_shift"], columns["fare"]["largest_shift"]) == (0.5, 0.5)
    assert columns["late"]["changed"] == 9
    assert columns["late"]["mean_after"] == 0.5
    assert columns["reasons"]["nulls_before"] == 20
    assert columns["carrier"]["mean_before"] is None
    assert found["schema"] == {"added": [], "gone": [], "changed": []}


def test_diff_compares_a_cleaned_batch_as_it_is_stored(loaded: LoadedModel, run: CommandLine) -> None:
    """Types and values are those after cleaning, not those of the manifest and its parts."""
    cleaned, platform = "20130201T063000Z-0123abcd", loaded.platform
    rows = [flight(number, late=False, fare=Decimal("1.5")) for number in range(20)]
    rules = (
        ColumnCleaning(column="seats", minimum="5"),
        ColumnCleaning(column="late", default="true"),
        ColumnCleaning(column="reasons", drop=True),
    )
    _load(platform, platform.builder.write(rows, batch_id=cleaned), *rules)
    found = run.json("diff", loaded.name, FIRST, cleaned).document
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["seats"]["changed"] == 5
    assert columns["seats"]["largest_shift"] == 5
    assert {name for name, column in columns.items() if column["changed"]} == {"seats"}
    assert [column["name"] for column in found["schema"]["gone"]] == ["reasons"]
    assert "reasons" not in columns


def test_diff_hides_values_of_sensitive_columns(loaded: LoadedModel, run: CommandLine) -> None:
    """Sample keys and the largest shift are left out, since each belongs to one entity."""
    columns = [{**column, "sensitive": column["name"] in {"flight", "fare"}} for column in COLUMNS]
    run.declare(loaded.name, columns=columns)
    found = run.json("diff", loaded.name, FIRST, SECOND).document
    assert (found["entities"]["added"], found["entities"]["sample_added"]) == (2, [])
    (fare,) = [column for column in found["columns"] if column["name"] == "fare"]
    assert (fare["changed"], fare["largest_shift"]) == (18, None)


def test_diff_names_a_batch_missing_from_the_warehouse(loaded: LoadedModel, run: CommandLine) -> None:
    """The status is 1, and no columns are compared."""
    told = run.json("diff", loaded.name, UNLOADED, SECOND)
    assert told.status == 1
    assert f"{loaded.name}/{UNLOADED} is not in the warehouse (it is loading)" in told.err
    assert (told.document["before"]["rows_in_warehouse"], told.document["after"]["rows_in_warehouse"]) == (
        0,
        20,
    )
    assert told.document["columns"] is None


def test_quarantine_of_a_retired_batch_still_counts_rows(loaded: LoadedModel, run: CommandLine) -> None:
    """The rows are deleted from S3 with the batch, but the load's report has their number."""
    retired, platform = "20130201T100000Z-0123abcd", loaded.platform
    _load(platform, platform.builder.write([flight(1), b'{"flight":"cut"'], batch_id=retired))
    _retire(loaded, retired)
    bucket = DataBucket(platform.aws("s3"), platform.deployment.data_bucket)
    bucket.delete(item.key for item in bucket.below(batch_quarantine_prefix(loaded.name, retired)))
    told = run.json("quarantine", loaded.name, retired)
    assert (told.status, told.document["rows"], told.document["lines"]) == (0, 1, [])
    assert "1 more rows are not shown; they are deleted from S3: the batch is retired" in told.err


def _retire(loaded: LoadedModel, batch_id: str) -> None:
    platform = loaded.platform
    platform.aws("dynamodb").update_item(
        TableName=platform.deployment.registry_table,
        Key={"model": {"S": loaded.name}, "record": {"S": f"batch#{batch_id}"}},
        UpdateExpression="SET load_state = :retired REMOVE claim_token",
        ExpressionAttributeValues={":retired": {"S": "retired"}},
    )


def test_diff_names_a_retired_batch(loaded: LoadedModel, run: CommandLine) -> None:
    """The message says that it cannot be loaded again, instead of suggesting a load."""
    retired = "20130201T090000Z-0123abcd"
    platform = loaded.platform
    platform.claim(platform.builder.write([flight(1)], batch_id=retired))
    _retire(loaded, retired)
    assert platform.warehouse(retired) == []
    told = run("diff", loaded.name, FIRST, retired)
    assert told.status == 1
    assert f"{loaded.name}/{retired} has left the warehouse (it is retired)" in told.err
    assert "cannot be loaded again" in told.err
    assert "mlpipe load" not in told.err
    assert WarehouseTable(loaded.name, FULL_SCHEMA).name not in told.out
