"""Declarations as Dagster's own loader reads them: templates, errors and the component tree."""

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


def load_model(folder: Path, model: str) -> PredictionPipeline:
    """Return a model's component as Dagster's tree loads it."""
    package = flights.defs if folder == EXAMPLE.defs else package_of(folder)
    tree = dg.ComponentTree.from_module(defs_module=package, project_root=folder)
    return tree.load_component(folder / model, PredictionPipeline)


def load_error(folder: Path, model: str) -> BaseException | None:
    """Return why a model is refused: the cause of the error that Dagster's tree raises."""
    with pytest.raises(Exception, match="Error while loading component") as caught:
        load_model(folder, model)
    return caught.value.__cause__


@pytest.mark.parametrize("model", declared_names(EXAMPLE.defs))
def test_dagster_loads_the_same_declaration_as_the_platform(model: str) -> None:
    """A declaration does not depend on whether Dagster's loader or the platform reads its file."""
    assert load_model(EXAMPLE.defs, model).declaration == declaration_of(model, EXAMPLE.defs)


def test_templates_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates work at any depth, numbers stay numbers, and text without a template is unchanged."""
    monkeypatch.setenv("WHAT", "A number for each thing")
    write(tmp_path, "things", TEMPLATES.replace("score\n", 'score\n      description: "[1, 2]"\n'))
    declared = load_model(tmp_path / "defs", "things").declaration
    assert declared.description == "A number for each thing"
    assert (declared.lookback, declared.tags) == (3, {"color": "red"})
    assert declared.columns[1].description == "[1, 2]"


def test_error_in_a_template_value_names_file_line_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value of a template is checked as if it had been written in its place."""
    monkeypatch.setenv("WHAT", "A number for each thing")
    monkeypatch.setenv("DAYS", "-1")
    path = write(tmp_path, "things", TEMPLATES)
    refused = load_error(tmp_path / "defs", "things")
    assert isinstance(refused, DeclarationError)
    assert f"{path}:6 attributes.lookback: " in str(refused)


def test_error_names_the_line_in_a_file_of_two_documents(tmp_path: Path) -> None:
    """Lines are counted from the start of the file, not of the document."""
    before = "type: dagster.DefsFolderComponent\n---\n"
    path = write(tmp_path, "things", before + TEXT.replace("decimal(7,2)", "number"))
    assert f"{path}:15 attributes.columns.1.type: " in str(load_error(tmp_path / "defs", "things"))


def test_missing_environment_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that needs an unset variable fails with an error that names it."""
    monkeypatch.delenv("WHAT", raising=False)
    write(tmp_path, "things", TEMPLATES)
    assert "Environment variable WHAT is not set" in str(load_error(tmp_path / "defs", "things"))


def test_errors_of_all_models_are_reported_together(tmp_path: Path) -> None:
    """Dagster's loader alone would stop at the first file."""
    for name in ("first", "second"):
        write(tmp_path, name, TEXT.replace("decimal(7,2)", "number"))
    with pytest.raises(DeclarationError, match=r"(?s)first/defs.yaml:13.*second/defs.yaml:13"):
        model_definitions(package_of(tmp_path / "defs"), tmp_path)


def test_model_in_a_nested_folder_is_refused(tmp_path: Path) -> None:
    """Tables and permissions are created only for the folders directly below `defs`."""
    path = tmp_path / "defs" / "team" / "things" / "defs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    refused = load_error(tmp_path / "defs", "team/things")
    assert isinstance(refused, InvalidNameError)
    assert "is not directly below" in str(refused)


@pytest.mark.parametrize("before", ["", "type: dagster.DefsFolderComponent\n---\n"])
def test_component_of_another_type_is_allowed_beside_models(tmp_path: Path, before: str) -> None:
    """Models load beside it, whether it is in another file or another document of the same file."""
    write(tmp_path, "things", before + TEXT)
    other = TEXT.replace(COMPONENT, "dagster.DefsFolderComponent").partition("attributes")[0]
    write(tmp_path, "others", other)
    found = model_definitions(package_of(tmp_path / "defs"), tmp_path)
    assert [schedule.name for schedule in found.schedules or ()] == ["things_score"]


def test_component_tree_shows_the_models() -> None:
    """`dg list component-tree` prints this tree."""
    tree = definitions_of(EXAMPLE).component_tree
    assert tree is not None
    shown = tree.to_string_representation()
    for model in declared_names(EXAMPLE.defs):
        assert f"{model}\n" in shown
    assert shown.count("defs.yaml (PredictionPipeline)") == len(declared_names(EXAMPLE.defs))
