"""A folder of models as Dagster's own loader reads it: templates, faults, and the tree that it shows."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import flights.defs
import pytest

from mlpipe_dagster.components.prediction_pipeline import PredictionPipeline
from mlpipe_dagster.definitions import definitions_of, model_definitions
from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_of
from model_declaration.declared_models import declared_names
from prediction_contract.errors import InvalidNameError
from tests.dagster.model_folder import package_of
from tests.declaration.test_declaration_files import TEXT, write
from tests.projects import EXAMPLE

TEMPLATES = TEXT.replace("A number for each thing.", "\"{{ env('WHAT') }}\"").replace(
    "lookback: 2",
    "lookback: \"{{ env('DAYS', 3) }}\"\n  tags: {color: \"{{ env('COLOR', 'red') }}\"}",
)


def loaded(folder: Path, model: str) -> PredictionPipeline:
    """Return a model's component as Dagster's tree loads it."""
    package = flights.defs if folder == EXAMPLE.defs else package_of(folder)
    tree = dg.ComponentTree.from_module(defs_module=package, project_root=folder)
    return tree.load_component(folder / model, PredictionPipeline)


def refusal(folder: Path, model: str) -> BaseException | None:
    """Return why a model is refused, below what Dagster says of its tree."""
    with pytest.raises(Exception, match="Error while loading component") as caught:
        loaded(folder, model)
    return caught.value.__cause__


@pytest.mark.parametrize("model", declared_names(EXAMPLE.defs))
def test_dagster_loads_what_all_others_read(model: str) -> None:
    """A declaration is the same whether Dagster's loader read the file or not."""
    assert loaded(EXAMPLE.defs, model).declaration == declaration_of(model, EXAMPLE.defs)


def test_templates_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any depth; a number stays one, and what holds no template stays as it is written."""
    monkeypatch.setenv("WHAT", "A number for each thing")
    write(tmp_path, "things", TEMPLATES.replace("score\n", 'score\n      description: "[1, 2]"\n'))
    declared = loaded(tmp_path / "defs", "things").declaration
    assert declared.description == "A number for each thing"
    assert (declared.lookback, declared.tags) == (3, {"color": "red"})
    assert declared.columns[1].description == "[1, 2]"


def test_a_fault_that_a_template_hid_is_told_with_file_line_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the template became is judged as if it had been written there."""
    monkeypatch.setenv("WHAT", "A number for each thing")
    monkeypatch.setenv("DAYS", "-1")
    path = write(tmp_path, "things", TEMPLATES)
    refused = refusal(tmp_path / "defs", "things")
    assert isinstance(refused, DeclarationError)
    assert f"{path}:6 attributes.lookback: " in str(refused)


def test_a_fault_is_told_with_its_line_though_another_document_stands_before_it(tmp_path: Path) -> None:
    """A line is the file's, not that of the same field in the first document."""
    before = "type: dagster.DefsFolderComponent\n---\n"
    path = write(tmp_path, "things", before + TEXT.replace("decimal(7,2)", "number"))
    assert f"{path}:15 attributes.columns.1.type: " in str(refusal(tmp_path / "defs", "things"))


def test_a_variable_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the model whose file asks for it."""
    monkeypatch.delenv("WHAT", raising=False)
    write(tmp_path, "things", TEMPLATES)
    assert "Environment variable WHAT is not set" in str(refusal(tmp_path / "defs", "things"))


def test_all_faults_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """Dagster's loader alone would end at the first file."""
    for name in ("first", "second"):
        write(tmp_path, name, TEXT.replace("decimal(7,2)", "number"))
    with pytest.raises(DeclarationError, match=r"(?s)first/defs.yaml:13.*second/defs.yaml:13"):
        model_definitions(package_of(tmp_path / "defs"), tmp_path)


def test_a_model_in_a_folder_below_is_refused(tmp_path: Path) -> None:
    """Tables and permissions are made for the folders directly below."""
    path = tmp_path / "defs" / "team" / "things" / "defs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    refused = refusal(tmp_path / "defs", "team/things")
    assert isinstance(refused, InvalidNameError)
    assert "is not directly below" in str(refused)


def test_what_else_lies_in_the_folder_is_loaded_too(tmp_path: Path) -> None:
    """Two documents, or a component of somebody else, are Dagster's to load."""
    write(tmp_path, "things", TEXT)
    other = TEXT.replace(COMPONENT, "dagster.DefsFolderComponent").partition("attributes")[0]
    write(tmp_path, "others", other)
    found = model_definitions(package_of(tmp_path / "defs"), tmp_path)
    assert [schedule.name for schedule in found.schedules or ()] == ["things_score"]


def test_the_tree_of_components_shows_the_models() -> None:
    """It is what `dg list component-tree` prints."""
    tree = definitions_of(EXAMPLE).component_tree
    assert tree is not None
    shown = tree.to_string_representation()
    for model in declared_names(EXAMPLE.defs):
        assert f"{model}\n" in shown
    assert shown.count("defs.yaml (PredictionPipeline)") == len(declared_names(EXAMPLE.defs))
