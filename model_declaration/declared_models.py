"""The names of the declared models, found without reading their files or importing anything slow."""

from __future__ import annotations

from pathlib import Path

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import ModelName
from prediction_contract.naming.resource_names import require_distinct_model_names

FILE_NAME = "defs.yaml"


class UndeclaredModelError(ContractError):
    """No model of this name is declared."""


def declared_names(folder: Path) -> list[str]:
    """Return the names of the folders that hold a declaration, sorted."""
    return sorted(found.parent.name for found in folder.glob(f"*/{FILE_NAME}"))


def deployable_names(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of all declared models, after checking that AWS names can contain them.

    Raises:
        InvalidNameError: A folder's name is not a model name, or two models would share AWS names.
    """
    files: dict[str, Path] = {ModelName(name): folder / name / FILE_NAME for name in declared_names(folder)}
    require_distinct_model_names(files)
    return tuple(files)


def require_declared(name: str, folder: Path) -> Path:
    """Return the file that declares a model, without reading it.

    Raises:
        InvalidNameError: The name is not a model name.
        UndeclaredModelError: No model of this name is declared.
    """
    path = folder / ModelName(name) / FILE_NAME
    if not path.is_file():
        raise UndeclaredModelError(
            f"No model {name} is declared",
            remedy=f"The models are {', '.join(declared_names(folder))}",
            model=name,
        )
    return path
