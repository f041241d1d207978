"""The declared models, read from their files without loading Dagster's whole code location."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import ModelName

if TYPE_CHECKING:
    from mlpipe_dagster.declaration import ModelDeclaration

DEFS = Path(__file__).resolve().parents[1] / "defs"


class UnknownModelError(ContractError):
    """No model of this name is declared, or its declaration is wrong."""


def declared_names(folder: Path = DEFS) -> list[str]:
    """Return the names of all declared models, sorted."""
    return sorted(found.parent.name for found in folder.glob("*/defs.yaml"))


def require_declared(name: str, folder: Path = DEFS) -> Path:
    """Return the file that declares a model, without reading it.

    Raises:
        InvalidNameError: The name has another form.
        UnknownModelError: There is none.
    """
    path = folder / ModelName(name) / "defs.yaml"
    if not path.is_file():
        raise UnknownModelError(
            f"No model {name} is declared",
            remedy=f"The models are {', '.join(declared_names(folder))}",
            model=name,
        )
    return path


def declared_model(name: str, folder: Path = DEFS) -> ModelDeclaration:
    """Return a model's declaration.

    Raises:
        InvalidNameError: The name has another form.
        UnknownModelError: There is none, or it is wrong.
    """
    path = require_declared(name, folder)
    # A declaration's types are Dagster's, which takes most of a second: only some commands need one.
    from mlpipe_dagster.declaration.file import DeclarationError, declaration_in  # noqa: PLC0415

    try:
        declared = declaration_in(path)
    except DeclarationError as error:
        raise UnknownModelError(error.what, remedy=error.remedy, model=name) from error
    if declared is None:
        raise UnknownModelError(
            f"{path} is not one plain model: it holds templates, other components, or no YAML",
            remedy="Write its values out; `dg check yaml` names faults of its form",
            model=name,
        )
    return declared


def sensitive_columns(name: str, folder: Path = DEFS) -> frozenset[str] | None:
    """Return the columns whose values nobody is to be shown, or None if the declaration does not tell.

    Raises:
        InvalidNameError: The name has another form.
        UnknownModelError: No model of this name is declared.
    """
    path = require_declared(name, folder)
    import yaml  # noqa: PLC0415  # only a command that shows rows asks

    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns = document["attributes"]["columns"]
        # Whatever stands there beside false, a template for instance, is taken for yes.
        return frozenset(column["name"] for column in columns if column.get("sensitive", False) is not False)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return None
