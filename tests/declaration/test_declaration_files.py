"""A `defs.yaml` is read as Dagster reads it, and errors name file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_in, declarations_in
from tests.dagster.small_model import attributes

TEXT = f"""type: {COMPONENT}

attributes:
  description: A number for each thing.
  partitions: {{kind: hourly, start: 2013-01-01T05, end: 2014-01-01T00}}
  lookback: 2
  training:
    first_partition: 2013-01-01T06
    last_partition: 2013-01-02T06
  columns:
    - {{name: entity_id, type: string, nullable: false, key: true}}
    - name: score
      type: decimal(7,2)
"""


def write(folder: Path, name: str, text: str) -> Path:
    """Write a model's file below a package's `defs`, and return its path."""
    path = folder / "defs" / name / "defs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def text_of(**changes: Any) -> str:
    """Return the small model's file with changed attributes."""
    return str(yaml.safe_dump({"type": COMPONENT, "attributes": attributes(**changes)}, sort_keys=False))


def test_model_is_named_after_its_folder(tmp_path: Path) -> None:
    """A model has the name of its folder, also as its default asset group."""
    declared = declaration_in(write(tmp_path, "things", TEXT))
    assert declared is not None
    assert (declared.name, declared.asset_group) == ("things", "things")
    assert (declared.partitions.start, declared.partitions.kind) == ("2013-01-01T05", "hourly")


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("2013-01-01T05", "2013-02-30T05", ":5 attributes.partitions.start: "),
        ("2014-01-01T00", "2012-01-01T00", ":5 attributes.partitions.end: end 2012-01-01T00 is not later"),
        ("kind: hourly", "kind: daily", ":5 attributes.partitions.start: 2013-01-01T05 is not daily"),
        ("kind: hourly", "kind: weekly", ":5 attributes.partitions.start: 2013-01-01T05 is not weekly"),
        ("kind: hourly", "kind: yearly", ":5 attributes.partitions.kind: "),
        ("2013-01-02T06", "2013-01-02", ":9 attributes.training.last_partition: 2013-01-02 is not hourly"),
        ("2013-01-02T06", "2012-01-02T06", ":9 attributes.training.last_partition: "),
        ("decimal(7,2)", "number", ":13 attributes.columns.1.type: "),
        ("name: score", "name: entity_id", ":10 attributes.columns: Column entity_id is declared twice"),
        (
            "name: score",
            "name: localtime",
            ":10 attributes.columns: Snowflake reserves the column name local",
        ),
        (
            "  lookback: 2",
            "  look_back: 2",
            ":6 attributes.look_back: Extra inputs are not permitted; did you mean lookback",
        ),
        (
            "  lookback: 2",
            "  sources: {orders: {format: parquet, path: orders, knownat: at}}",
            ":6 attributes.sources.orders.knownat: Extra inputs are not permitted; did you mean known_at",
        ),
        ("  lookback: 2", "  name: others", ":6 attributes.name: a model has the name of its folder"),
        ("  lookback: 2", "  owners: [somebody]", ":6 attributes.owners.0: "),
        ("  lookback: 2", "  schedule: {cron: often}", ":6 attributes.schedule.cron: "),
        ("  lookback: 2", "  lookback: 367", ":6 attributes.lookback: "),
        (
            "  lookback: 2",
            "  cleaning:\n    - {column: score, default: 0}\n    - {column: colour, drop: true}",
            ":8 attributes.cleaning.1.column: colour is not a column",
        ),
        (
            "  lookback: 2",
            "  cleaning:\n    - column: score\n      clamp: {minimum: 2, maximum: 1.5}",
            ":8 attributes.cleaning.0.clamp.minimum: score has the minimum 2 but the smaller maximum 1.5",
        ),
        (
            "  lookback: 2",
            "  cleaning: [{column: score, cast: string}]",
            ":6 attributes.cleaning.0.cast: score is a decimal(7,2), which can be cast to",
        ),
        (
            "  lookback: 2",
            "  cleaning: [{column: score, rename: entity_id}]",
            ":6 attributes.cleaning: as the stores hold them: Column entity_id is declared twice",
        ),
        (
            "  lookback: 2",
            "  cleaning: [{column: score, rename: current_date}]",
            ":6 attributes.cleaning: as the stores hold them: Snowflake reserves the column name",
        ),
        ("  lookback: 2", "  cleaning: [{column: score, scale: 2}]", ":6 attributes.cleaning.0.scale: "),
        (
            "  lookback: 2",
            "  cleaning: [{column: score, rename: points}]\n  quality: {drift: {columns: [{column: score}]}}",
            ":7 attributes.quality: quality names score, which are not columns",
        ),
        (
            "  lookback: 2",
            "  produced_by: sagemaker\n  schedule: {cron: 0 6 13 * 5}",
            ":7 attributes.schedule.cron: EventBridge Scheduler cannot run the cron schedule '0 6 13 * 5'",
        ),
        (
            "  lookback: 2",
            "  scoring:\n    whole: true\n    chunk_rows: 1000",
            ":8 attributes.scoring.chunk_rows: `whole` passes all rows to one call of `predict`",
        ),
        (
            "  lookback: 2",
            "  scoring: {whole: true}\n  processing:\n    instances: 2",
            ":8 attributes.processing.instances: `scoring.whole` passes all rows to one call of `predict`",
        ),
        ("  description: A number for each thing.\n", "", ":3 attributes.description: Field required"),
        (
            "  lookback: 2",
            "  enrichments: [{name: weather, provider: api, path: /x, fields: [a]}]",
            ":6 attributes.enrichments.0.provider: provider name 'api' cannot be used: MLPIPE_API_URL",
        ),
    ],
)
def test_error_names_file_line_and_field(tmp_path: Path, was: str, becomes: str, told: str) -> None:
    """Errors of single fields and of fields that contradict each other name file, line and field."""
    assert was in TEXT
    path = write(tmp_path, "things", TEXT.replace(was, becomes))
    with pytest.raises(DeclarationError) as caught:
        declaration_in(path)
    assert f"{path}{told}" in str(caught.value)


def test_all_errors_of_a_file_are_reported_together(tmp_path: Path) -> None:
    """All invalid fields of a file are reported in one error."""
    days = TEXT.replace("T05", "").replace("T06", "").replace("T00", "").replace("decimal(7,2)", "number")
    with pytest.raises(DeclarationError) as caught:
        declaration_in(write(tmp_path, "things", days))
    told = str(caught.value)
    faulty = (
        *("partitions.start", "partitions.end", "training.first_partition", "training.last_partition"),
        "columns.1.type",
    )
    assert [told.count(f" attributes.{field}: ") for field in faulty] == [1, 1, 1, 1, 1]


def test_errors_of_several_sections_are_reported_together(tmp_path: Path) -> None:
    """An error in one section does not hide those in other sections."""
    text = TEXT.replace("2013-01-02T06", "2013-01-02").replace(
        "  lookback: 2", "  retention: {items_days: 2, minimum_life_hours: 48}"
    )
    text += "  quality: {rows: {at_least: 0.5}, drift: {columns: [{column: colour}]}}\n"
    with pytest.raises(DeclarationError) as caught:
        declaration_in(write(tmp_path, "things", text))
    for field in ("training.last_partition", "retention.minimum_life_hours", "quality"):
        assert f" attributes.{field}: " in str(caught.value)


def test_unquoted_decimal_error_suggests_quotes(tmp_path: Path) -> None:
    """YAML cuts an unquoted `decimal(10,2)` in braces at the comma; the error suggests quotes."""
    text = "- {name: points, type: decimal(10,2)}"
    whole = TEXT.replace("  columns:\n", f"  columns:\n    {text}\n")
    assert whole != TEXT
    with pytest.raises(DeclarationError, match=r'decimal\(10 is cut off .* in quotes: "decimal\(10,2\)"'):
        declaration_in(write(tmp_path, "things", whole))


def test_errors_of_all_files_are_reported_together(tmp_path: Path) -> None:
    """The errors of all declarations are reported in one exception."""
    for name in ("first", "second"):
        write(tmp_path, name, TEXT.replace("decimal(7,2)", "number"))
    with pytest.raises(DeclarationError, match=r"(?s)first/defs.yaml:13.*second/defs.yaml:13"):
        declarations_in(tmp_path / "defs")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("A number for each thing.", "\"{{ env('WHAT') }}\""),
        TEXT + "\npost_processing: {}\n",
        TEXT + "---\n" + TEXT,
        TEXT.replace(COMPONENT, "somebody.elses.Component"),
        "type: [",
    ],
)
def test_file_that_is_not_plain_is_left_to_dagster(tmp_path: Path, text: str) -> None:
    """Templates, several documents, other components and invalid YAML are left to Dagster's loader."""
    assert declaration_in(write(tmp_path, "things", text)) is None


def test_optional_fields_may_be_null(tmp_path: Path) -> None:
    """A null equals leaving the field out, except that a null drift threshold stays null."""
    nulls = text_of(
        partitions={"start": "2013-01-01", "end": None},
        publication={"due_hours": None},
        quality={"rows": None, "coverage": None, "drift": {"warn": None, "block": None}, "verify": None},
        loading={"max_write_units_per_second": None},
        schedule={"cron": None},
        group=None,
    )
    declared = declaration_in(write(tmp_path / "nulls", "things", nulls))
    omitted = text_of(partitions={"start": "2013-01-01"}, quality={"drift": {"warn": None}})
    plain = declaration_in(write(tmp_path / "plain", "things", omitted))
    assert declared is not None
    assert plain is not None
    assert declared.quality.drift.warn is None
    assert declared.model_copy(update={"folder": plain.folder}) == plain


def test_invalid_folder_name_is_refused(tmp_path: Path) -> None:
    """A folder name that is not a valid model name is reported with the folder, not a line of its file."""
    path = write(tmp_path, "Things", TEXT)
    with pytest.raises(DeclarationError, match=r"defs/Things: .*model name"):
        declaration_in(path)


def test_unquoted_date_stays_text(tmp_path: Path) -> None:
    """An unquoted date stays text, as in Dagster's loader."""
    declared = declaration_in(write(tmp_path, "things", text_of().replace("'", "")))
    assert declared is not None
    assert declared.partitions.start == "2013-01-01"
