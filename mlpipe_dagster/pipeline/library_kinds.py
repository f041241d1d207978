"""The library that trains a model, shown as a kind of its assets in Dagster."""

from __future__ import annotations

import re
from pathlib import Path

from model_declaration.declaration import ModelDeclaration

# The library that the platform includes.
_USUAL = "scikitlearn"
_OF_CODECS = {"skops": _USUAL}
_OF_PACKAGES = {
    "catboost": "catboost",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "onnxruntime": "onnx",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "torch": "pytorch",
    "xgboost": "xgboost",
    "xgboost-cpu": "xgboost",
}
_PACKAGE = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")


def library_kind(declaration: ModelDeclaration) -> str:
    """Return the Dagster kind for the library that trains a model.

    For a model trained elsewhere it follows from the file's format, otherwise from the first known library in
    the model's requirements.
    """
    if (file := declaration.model_file) is not None:
        return _OF_CODECS.get(file.codec, file.codec)
    packages = (_PACKAGE.match(line) for line in _requirements(declaration))
    known = (_OF_PACKAGES.get(found[0].lower()) for found in packages if found)
    return next(filter(None, known), _USUAL)


def _requirements(declaration: ModelDeclaration) -> list[str]:
    """Return the lines of a model's requirements file; empty if there is no file."""
    path = _requirements_file(declaration)
    return [] if path is None else path.read_text(encoding="utf-8").splitlines()


def _requirements_file(declaration: ModelDeclaration) -> Path | None:
    if declaration.requirements is None or declaration.package_folder is None:
        return None
    # The package is below `src/` or in the project's folder.
    above = declaration.package_folder.parents[:2]
    files = (folder / "requirements" / f"{declaration.requirements}.in" for folder in above)
    return next((path for path in files if path.is_file()), None)
