"""The declaration reference lists the fields, types, formats, metric kinds and codecs of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from model_declaration.columns import DeclaredCleaning, DeclaredColumn, DeclaredEnrichment
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs.declared_metrics import DeclaredMetric
from model_declaration.inputs.origins import DeclaredFeatures, ModelFile
from model_declaration.inputs.sources import (
    DeltaSource,
    ParquetSource,
    ReaderSource,
    SnowflakeSource,
    TextSource,
)
from model_declaration.lifecycle import (
    DeclaredPublication,
    Loading,
    ProcessingCompute,
    Retention,
    Scoring,
)
from model_declaration.partitions import DeclaredSchedule, Partitions, Training, TrainingRange
from model_declaration.quality import Accuracy, ColumnRule, CoverageOfLive, Drift, Quality, RowsAgainstLive
from prediction_contract.jobs.metrics import METRIC_KINDS
from prediction_contract.jobs.model_inputs import SOURCE_FORMATS
from prediction_contract.rows.schema import Kind
from sagemaker_scripts.codecs.known_codecs import Codecs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "declaration.md"
_NAME = re.compile("`([^`]+)`")
_RANGE = re.compile(r"integer, (?:from )?([\d,]+)(?: to ([\d,]+))?")
_SOURCES = (ParquetSource, TextSource, DeltaSource, SnowflakeSource, ReaderSource)
# A model's name is its folder's name, not a field of the file.
_NOT_LISTED = {"name", "folder"}
PARTS: dict[str, type[BaseModel]] = {
    "### `partitions`": Partitions,
    "### `schedule`": DeclaredSchedule,
    "### `features`": DeclaredFeatures,
    "### `model`": ModelFile,
    "### `training`": Training,
    "### `training` with partitions": TrainingRange,
    "### `training.metrics`": DeclaredMetric,
    "### `scoring`": Scoring,
    "### `columns`": DeclaredColumn,
    "### `cleaning`": DeclaredCleaning,
    "### `enrichments`": DeclaredEnrichment,
    "### `loading`": Loading,
    "### `quality`": Quality,
    "### `quality.columns`": ColumnRule,
    "### `quality.rows`": RowsAgainstLive,
    "### `quality.coverage`": CoverageOfLive,
    "### `quality.drift`": Drift,
    "### `quality.accuracy`": Accuracy,
    "### `publication`": DeclaredPublication,
    "### `retention`": Retention,
    "### `processing` and `training_compute`": ProcessingCompute,
}


def rows_below(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its header."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    lines = lines[lines.index(heading) + 1 :]
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    assert not any(line.startswith("#") for line in lines[:first]), f"{heading} has no table"
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names_below(heading: str) -> list[str]:
    """Return the names in the first column of the first table below a heading."""
    return [name for cells in rows_below(heading) for name in _NAME.findall(cells[0])]


def fields_of(part: type[BaseModel]) -> list[str]:
    """Return the names of a part's fields as files spell them."""
    return [field.alias or name for name, field in part.model_fields.items()]


def test_every_field_of_a_declaration_is_listed() -> None:
    """The first table lists exactly the top-level fields."""
    assert sorted(names_below("## Fields")) == sorted(set(fields_of(ModelDeclaration)) - _NOT_LISTED)


@pytest.mark.parametrize("heading", PARTS)
def test_every_field_of_a_part_is_listed(heading: str) -> None:
    """Each part of a declaration has a table of exactly its fields."""
    assert sorted(names_below(heading)) == sorted(fields_of(PARTS[heading]))


def test_every_field_of_a_source_is_listed_with_its_formats() -> None:
    """The table names the formats that allow each field."""
    groups = {"files": ("parquet", "csv", "jsonl"), "all": SOURCE_FORMATS}
    written = {}
    for field, formats, *_ in rows_below("### `sources`"):
        named = [each.strip(" `") for each in formats.split(",")]
        written[field.strip("`")] = {name for each in named for name in groups.get(each, (each,))}
    found: dict[str, set[str]] = {}
    for kind in _SOURCES:
        for field in fields_of(kind):
            found.setdefault(field, set()).update(get_args(kind.model_fields["format"].annotation))
    assert written == found


def test_every_plain_default_is_listed() -> None:
    """The page gives the same default as the code."""
    told = {
        (heading, name): cells[2]
        for heading in PARTS
        for cells in rows_below(heading)
        for name in _NAME.findall(cells[0])
        if len(_NAME.findall(cells[0])) == 1
    }
    wrong = {}
    for (heading, name), text in told.items():
        default: Any = next(
            field.default
            for own, field in PARTS[heading].model_fields.items()
            if (field.alias or own) == name
        )
        if isinstance(default, bool):
            default = str(default).lower()
        if isinstance(default, str | int | float) and default != "" and str(default) not in text:
            wrong[heading, name] = (text, default)
    assert wrong == {}


def test_integer_ranges_match_the_code() -> None:
    """The page gives the minimum and the maximum of each integer as the code has them."""
    tables = {"## Fields": ModelDeclaration, **PARTS}
    found = 0
    for heading, part in tables.items():
        for cells in rows_below(heading):
            if (written := _RANGE.fullmatch(cells[1])) is None:
                continue
            [name] = _NAME.findall(cells[0])
            schema = part.model_json_schema(by_alias=True)["properties"][name]
            # The schema of an optional field lists the integer beside null.
            [integer] = [each for each in schema.get("anyOf", [schema]) if each["type"] == "integer"]
            bounds = tuple(None if each is None else int(each.replace(",", "")) for each in written.groups())
            assert bounds == (integer.get("minimum"), integer.get("maximum")), (heading, name)
            found += 1
    assert found > 10


def test_every_column_type_is_listed() -> None:
    """The table lists every kind of column in order."""
    assert [name.partition("(")[0] for name in names_below("## Column types")] == [
        *("string", "long", "decimal", "double", "boolean", "date", "timestamp", "json")
    ]
    assert {kind.value for kind in Kind} == {
        name.partition("(")[0] for name in names_below("## Column types")
    }


def test_every_format_is_listed() -> None:
    """The table lists every source format in order."""
    assert names_below("## Formats of sources") == list(SOURCE_FORMATS)


def test_every_metric_kind_is_listed_with_its_direction() -> None:
    """The table lists each kind and whether lower or higher values are better."""
    rows = rows_below("## Metric kinds")
    assert {cells[0].strip("`"): cells[2] for cells in rows} == {
        kind: better or "as `better` says" for kind, better in METRIC_KINDS.items()
    }


def test_codecs_are_listed_in_lookup_order() -> None:
    """The table lists the platform's codecs in the order in which they are tried."""
    assert names_below("## Codecs") == [codec.name for codec in Codecs()._known]
