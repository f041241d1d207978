"""A model's `defs.yaml` as its declaration; a fault is told with file, line and field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mlpipe_dagster.declaration.model import ModelDeclaration
from prediction_contract.errors import ContractError

COMPONENT = "mlpipe_dagster.components.prediction_pipeline.PredictionPipeline"
FILE_NAME = "defs.yaml"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class DeclarationError(ContractError):
    """A `defs.yaml` cannot be read, or what it declares is wrong."""


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]  # one of two
    """Reads as Dagster does, and some twenty times faster: without positions, and a date stays text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own name and form
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_plain(path: Path) -> Mapping[str, Any] | None:
    """Return the attributes of a file that is one model and nothing else, without templates.

    Returns:
        None for whatever else Dagster may make of the file: templates, several documents, other components,
        post-processing, or no YAML at all.
    """
    text = path.read_text(encoding="utf-8")
    if "{{" in text or "{%" in text:
        return None
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # it is a safe loader
    except yaml.YAMLError:
        return None
    if not isinstance(document, dict) or set(document) != {"type", "attributes"}:
        return None
    attributes = document["attributes"]
    return attributes if document["type"] == COMPONENT and isinstance(attributes, dict) else None


def declaration_in(path: Path) -> ModelDeclaration | None:
    """Return what a plain file declares, under the name of its folder; None if it is not plain.

    Raises:
        DeclarationError: What it declares is wrong.
    """
    attributes = read_plain(path)
    if attributes is None:
        return None
    model = path.parent.name
    if "name" in attributes:
        raise DeclarationError(
            f"{path}:{_line(path, ['attributes', 'name'])} attributes.name: "
            "a model is called like its folder",
            remedy=f"Leave it out, or rename the folder {model}",
        )
    try:
        return ModelDeclaration.model_validate({"name": model, **attributes})
    except ValidationError as error:
        raise located(error, path) from error


def located(error: ValidationError, path: Path) -> DeclarationError:
    """Return a fault of a declaration with file, line and field of each of its causes."""
    faults = []
    for cause in error.errors(include_url=False, include_context=False):
        if cause["loc"] == ("name",):
            faults.append(f"{path.parent}: {cause['msg']}")
            continue
        field = ["attributes", *cause["loc"]]
        faults.append(f"{path}:{_line(path, field)} {'.'.join(map(str, field))}: {cause['msg']}")
    return DeclarationError("; ".join(faults), remedy="Correct the file, and run `dg check defs`")


def _line(path: Path, field: list[Any]) -> int:
    """Return the line of a field, or of what surrounds one that is missing."""
    # It reads the file by Python alone, which only a fault is worth.
    from dagster_shared.yaml_utils import parse_yaml_with_source_position  # noqa: PLC0415

    parsed = parse_yaml_with_source_position(path.read_text(encoding="utf-8"), str(path))
    position, _ = parsed.source_position_tree.lookup_closest_and_path(field, None)
    return position.start.line
