"""All models found below `defs/`: plain files by a quick way, everything else as Dagster itself loads it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.declaration.file import FILE_NAME, DeclarationError, declaration_in
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import require_distinct_model_names

_IGNORED = ("__pycache__", "__init__.py")


def definitions_below(package: Path) -> dg.Definitions:
    """Return the definitions of all that lies in a package's `defs/`.

    Dagster's own loader reads YAML by Python alone, compiles each text as a template and looks at every file
    again for each: 500 models take it half a minute. A folder that holds one plain `defs.yaml` of this
    project's component is read here instead; whatever else is there is left to Dagster's loader.

    Args:
        package: The folder of the package that holds `defs/`.

    Raises:
        DeclarationError: What files declare is wrong, or AWS could not tell two models apart; all is told.
    """
    folder = package / "defs"
    found, faults, others = [], [], []
    files: dict[str, Path] = {}
    with _paused_collection():
        for entry in sorted(folder.iterdir()):
            if entry.name in _IGNORED:
                continue
            try:
                declared = declaration_in(entry / FILE_NAME) if _is_plain(entry) else None
            except DeclarationError as error:
                faults.append(error)
                continue
            if declared is None:
                others.append(entry)
            else:
                files[declared.name] = entry / FILE_NAME
                found.append(pipeline_definitions(declared))
        try:
            require_distinct_model_names(files)
        except InvalidNameError as error:
            faults.append(DeclarationError(error.what, remedy=error.remedy))
        if faults:
            raise faults[0] if len(faults) == 1 else _together(faults)
        if others:
            tree = dg.ComponentTree.for_project(package)
            found += [tree.build_defs(entry) for entry in others if _has_definitions(entry)]
        return dg.Definitions.merge(*found)


def _is_plain(entry: Path) -> bool:
    """Tell whether a folder holds a `defs.yaml` and nothing that Dagster would load beside it."""
    if not (entry / FILE_NAME).is_file():
        return False
    return not any(
        each.is_dir() or each.suffix == ".py" for each in entry.iterdir() if each.name != "__pycache__"
    )


def _has_definitions(entry: Path) -> bool:
    """Tell whether Dagster's loader takes a file or folder; it fails on one without any definition."""
    if entry.is_dir():
        return any(each.suffix in {".py", ".yaml", ".yml"} for each in entry.rglob("*"))
    return entry.suffix == ".py"


def _together(faults: list[DeclarationError]) -> DeclarationError:
    return DeclarationError("; ".join(each.what for each in faults), remedy=faults[0].remedy)


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Let nothing look for garbage while hundreds of thousands of objects are made that all stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
