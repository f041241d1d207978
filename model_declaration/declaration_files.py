"""Reads a model's `defs.yaml`; errors name the file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from model_declaration.declaration import ModelDeclaration
from model_declaration.declared_models import (
    FILE_NAME,
    declared_names,
    require_declared,
)
from model_declaration.located_yaml import document_in, line_of, member
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.naming.resource_names import require_distinct_model_names

COMPONENT = "mlpipe.PredictionPipeline"
# Files of earlier versions use the second name.
_COMPONENTS = frozenset({COMPONENT, "mlpipe_dagster.components.prediction_pipeline.PredictionPipeline"})
_SET_BY_FOLDER = frozenset({"name", "folder"})
# pydantic's message for an unknown field, which stays when its error is raised again.
_UNKNOWN = "Extra inputs are not permitted"
_TEMPLATE_MARKS = ("{{", "{%")


class DeclarationError(ContractError):
    """A `defs.yaml` cannot be read, or its declaration is wrong."""


def holds_template(text: str) -> bool:
    """Return whether a text holds a template that Dagster fills in when it loads."""
    return any(mark in text for mark in _TEMPLATE_MARKS)


def _document(text: str) -> Any:
    """Return a file's content with templates not filled in; None if it is not one YAML document."""
    try:
        return document_in(text)
    except yaml.YAMLError:
        return None


def declaration_in(path: Path) -> ModelDeclaration | None:
    """Return the declaration in a file, named after its folder.

    Returns:
        None if only Dagster can read the file: it holds templates, several documents, other components or
        post-processing, or is not YAML.

    Raises:
        DeclarationError: The declaration is wrong.
    """
    text = path.read_text(encoding="utf-8")
    document = None if holds_template(text) else _document(text)
    if not isinstance(document, dict) or set(document) != {"type", "attributes"}:
        return None
    if document["type"] not in _COMPONENTS or not isinstance(document["attributes"], dict):
        return None
    return validated(document["attributes"], path)


def validated(attributes: Mapping[str, Any], path: Path) -> ModelDeclaration:
    """Return the declaration of a file's attributes, which hold no templates.

    Raises:
        DeclarationError: The declaration is wrong; the message names file, line and field of each fault.
    """
    model = path.parent.name
    for field in _SET_BY_FOLDER.intersection(attributes):
        raise DeclarationError(
            f"{field_location(path, field)}: a model has the name of its folder",
            remedy=f"Remove the field, or rename the folder {model}",
        )
    try:
        return ModelDeclaration.model_validate({"name": model, "folder": path.parent, **attributes})
    except ValidationError as error:
        raise _located(error, path) from error


def declaration_of(name: str, folder: Path) -> ModelDeclaration:
    """Return a model's declaration.

    Raises:
        InvalidNameError: The name is not a model name.
        UndeclaredModelError: No model of this name is declared.
        DeclarationError: The declaration is wrong, or only Dagster can read it.
    """
    path = require_declared(name, folder)
    declared = declaration_in(path)
    if declared is None:
        raise DeclarationError(
            f"{path} is not one plain model: it holds templates or other components, or is not YAML",
            remedy="Write plain values; `dg check yaml` finds syntax errors",
            model=name,
        )
    return declared


def declarations_in(folder: Path) -> dict[str, ModelDeclaration | None]:
    """Return all declarations by model name; None for those that only Dagster can read.

    Raises:
        DeclarationError: Declarations are wrong, or two models would share AWS names; the message names all
            faults.
    """
    found: dict[str, ModelDeclaration | None] = {}
    faults = []
    for name in declared_names(folder):
        try:
            found[name] = declaration_in(folder / name / FILE_NAME)
        except DeclarationError as error:
            faults.append(error)
    try:
        require_distinct_model_names({name: folder / name / FILE_NAME for name in found})
    except InvalidNameError as error:
        faults.append(DeclarationError(error.what, remedy=error.remedy))
    if faults:
        raise faults[0] if len(faults) == 1 else _combined(faults)
    return found


def written_attributes(name: str, folder: Path) -> Mapping[str, Any]:
    """Return the attributes in a model's file without validation; empty if it has none.

    Raises:
        InvalidNameError: The name is not a model name.
        UndeclaredModelError: No model of this name is declared.
    """
    document = _document(require_declared(name, folder).read_text(encoding="utf-8"))
    attributes = document.get("attributes") if isinstance(document, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def sensitive_columns(name: str, folder: Path) -> frozenset[str] | None:
    """Return the sensitive columns; None if the declaration's columns cannot be read.

    Raises:
        InvalidNameError: The name is not a model name.
        UndeclaredModelError: No model of this name is declared.
    """
    try:
        columns = written_attributes(name, folder)["columns"]
        # Anything except false counts as true, for example a template.
        return frozenset(column["name"] for column in columns if column.get("sensitive", False) is not False)
    except (AttributeError, KeyError, TypeError):
        return None


def _combined(faults: list[DeclarationError]) -> DeclarationError:
    return DeclarationError("; ".join(each.what for each in faults), remedy=faults[0].remedy)


def _located(error: ValidationError, path: Path) -> DeclarationError:
    """Return an error that names file, line and field of each cause."""
    faults = []
    for cause in error.errors(include_url=False, include_context=False):
        if cause["loc"] == ("name",):
            faults.append(f"{path.parent}: {cause['msg']}")
            continue
        # A fault in a member's name is reported at the member.
        field = (each for each in cause["loc"] if each != "[key]")
        suggestion = _suggestion(str(cause["loc"][-1])) if cause["msg"] == _UNKNOWN else ""
        faults.append(f"{field_location(path, *field)}: {cause['msg']}{suggestion}")
    return DeclarationError("; ".join(faults), remedy="Correct the file, and run `dg check defs`")


def _suggestion(name: str) -> str:
    """Return a "did you mean" for a field with a similar name; empty if there is none."""
    known = sorted(set(_fields(ModelDeclaration.model_json_schema())))
    return "".join(f"; did you mean {close}?" for close in get_close_matches(name, known, n=1))


def _fields(schema: Any) -> Iterator[str]:
    """Yield the names of all fields in a JSON Schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        for each in schema.values():
            yield from _fields(each)


def field_location(path: Path, *field: int | str) -> str:
    """Return `file:line field` of a declaration's field; the line of its parent if the field is missing.

    Args:
        path: The file.
        field: The path to the field from the model's attributes.
    """
    members = ["attributes", *field]
    return f"{path}:{_line(path, members)} {'.'.join(map(str, members))}"


def _line(path: Path, field: list[Any]) -> int:
    # The file may hold other components too.
    return line_of(path.read_text(encoding="utf-8"), field, _is_model)


def _is_model(node: Any) -> bool:
    found = member(node, "type")
    return found is not None and found[1].value in _COMPONENTS
