"""Files shown in the documentation are valid: declarations, stages, demos and project settings."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from infra.local.demo.demo_plan import FILE_NAME as DEMO_FILE
from infra.local.demo.demo_plan import DemoPlan, demo_plan
from infra.settings import StageSettings
from infra.stages import stages_in
from model_declaration.declaration import ModelDeclaration
from model_declaration.declaration_files import COMPONENT, declaration_in
from model_declaration.project import MARKER, Project
from tests.infra.example_stages import stage_text
from tests.projects import EXAMPLE, new_project
from tests.wiring.documented_commands import DOCUMENTS, name_of

_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_REST_OF_A_MODEL = ("description", "partitions", "sources", "training", "columns")

_MARKED = '[tool.dg.project]\nroot_module = "acme"\n\n'


class ShownFile(NamedTuple):
    """A file, or a part of one, in a document."""

    document: str
    line: int
    language: str
    text: str


def shown_files() -> Iterator[ShownFile]:
    """Yield the YAML, TOML and JSON blocks of the documentation."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            if found[1] in {"yaml", "toml", "json"}:
                yield ShownFile(name_of(path), text[: found.start()].count("\n") + 1, found[1], found[2])


def take_declaration(shown: dict[str, Any], folder: Path) -> None:
    """Validate a complete declaration."""
    model = folder / "model"
    model.mkdir()
    if shown["attributes"].get("training", {}).get("metrics"):
        (model / "outcomes.py").touch()
    (model / "defs.yaml").write_text(str(yaml.safe_dump(shown, sort_keys=False)))
    assert declaration_in(model / "defs.yaml") is not None


def take_part_of_declaration(shown: dict[str, Any], folder: Path) -> None:
    """Validate some fields together with the other fields of an example model and missing columns."""
    whole: Any = yaml.safe_load((EXAMPLE.defs / "flight_delay" / "defs.yaml").read_text(encoding="utf-8"))
    # A shown source may reach back less far than a previous batch needs.
    attributes = {"lookback": 0, **{name: whole["attributes"][name] for name in _REST_OF_A_MODEL}}
    if "model" in shown:
        # A model trained elsewhere has no training.
        del attributes["training"]
    there = {column["name"] for column in attributes["columns"]}
    named = set(re.findall(r"'column': '(\w+)'", str(shown))) - there
    attributes["columns"] += [{"name": name, "type": "double"} for name in sorted(named)]
    take_declaration({"type": COMPONENT, "attributes": {**attributes, **shown}}, folder)


def take_stages(shown: dict[str, Any], folder: Path) -> None:
    """Validate stages; members that are not shown are taken from the example's `prod`."""
    path = folder / "stages.yaml"
    for name, members in shown.items():
        path.write_text(stage_text(lambda stage, given=members: stage.update(given), name))
        assert set(stages_in(path)) == {name}


def take_demo(shown: dict[str, Any], folder: Path) -> None:
    """Validate a demo plan."""
    project = new_project(folder / "project")
    (project.root / DEMO_FILE).write_text(str(yaml.safe_dump(shown)))
    assert demo_plan(project).model == shown["model"]


def reader_of(shown: dict[str, Any]) -> Callable[[dict[str, Any], Path], None] | None:
    """Return the function that validates a YAML document with these fields."""
    fields = set(shown)
    if "type" in fields:
        return take_declaration
    if {"model", "partitions", "entity_id"} <= fields <= set(DemoPlan.model_fields):
        return take_demo
    if fields <= set(ModelDeclaration.model_fields):
        return take_part_of_declaration
    if all(
        isinstance(each, dict) and set(each) <= set(StageSettings.model_fields) for each in shown.values()
    ):
        return take_stages
    return None


def place_of(shown: ShownFile) -> str:
    """Return document and line of a shown file, as test id."""
    return f"{shown.document}:{shown.line}"


@pytest.mark.parametrize("shown", [*shown_files()], ids=place_of)
def test_shown_file_is_valid(shown: ShownFile, tmp_path: Path) -> None:
    """A reader who copies a shown file gets no error."""
    if shown.language == "json":
        assert json.loads(shown.text)
    elif shown.language == "toml":
        root = new_project(tmp_path / "acme").root
        given = tomllib.loads(shown.text)
        (root / MARKER).write_text(shown.text if "dg" in given["tool"] else _MARKED + shown.text)
        assert Project.at(root).package == "acme"
    else:
        document: Any = yaml.safe_load(shown.text)
        take = reader_of(document)
        assert take is not None, "Nothing reads a file of such fields: correct their names."
        take(document, tmp_path)


@pytest.mark.parametrize(
    ("text", "taker"),
    [
        ("type: mlpipe.PredictionPipeline\nattributes: {}", take_declaration),
        ("retention: {items_days: 90}", take_part_of_declaration),
        ("model: a\npartitions: []\nentity_id: b", take_demo),
        ("prod: {account_id: '1'}", take_stages),
        ("retentoin: {items_days: 90}", None),
    ],
)
def test_kind_of_shown_file_follows_from_its_fields(text: str, taker: object) -> None:
    """A document with unknown fields is not taken for any kind of file."""
    document: Any = yaml.safe_load(text)
    assert reader_of(document) is taker
