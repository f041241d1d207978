"""Which library a model is trained with, as Dagster's pages show it beside the assets."""

from __future__ import annotations

import re
from pathlib import Path

from model_declaration.declaration import ModelDeclaration

# What the platform brings.
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
    """Return the kind of a model's library.

    It is told by the format of a model that was trained elsewhere, else by the first package of the model's
    requirements that is such a library.
    """
    if (file := declaration.model_file) is not None:
        return _OF_CODECS.get(file.codec, file.codec)
    packages = (_PACKAGE.match(line) for line in _requirements(declaration))
    known = (_OF_PACKAGES.get(found[0].lower()) for found in packages if found)
    return next(filter(None, known), _USUAL)


def _requirements(declaration: ModelDeclaration) -> list[str]:
    """Return the lines that state a model's requirements; none if the project's file is not there."""
    path = _requirements_file(declaration)
    return [] if path is None else path.read_text(encoding="utf-8").splitlines()


def _requirements_file(declaration: ModelDeclaration) -> Path | None:
    if declaration.requirements is None or declaration.package_folder is None:
        return None
    # The package lies below `src/` or in the project's folder itself.
    above = declaration.package_folder.parents[:2]
    files = (folder / "requirements" / f"{declaration.requirements}.in" for folder in above)
    return next((path for path in files if path.is_file()), None)
