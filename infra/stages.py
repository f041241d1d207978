"""Reads a project's stages from its `stages.yaml`; faults are reported with file, line and member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from infra.settings import StageSettings
from model_declaration.located_yaml import document_in, line_of, repeated_member
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class StageSettingsError(ContractError):
    """A `stages.yaml` cannot be read, or a stage is invalid."""


def stages_in(path: Path) -> dict[str, StageSettings]:
    """Return a file's stages by name, in the file's order.

    Args:
        path: A project's `stages_file`.

    Raises:
        StageSettingsError: The file is missing or wrong. The message has each fault's file, line and member.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageSettingsError(
            f"{path} cannot be read: {error}",
            remedy="Write it as docs/deployment.md describes; `mlpipe init` creates one",
        ) from error
    found: dict[str, StageSettings] = {}
    faults = []
    for stage, members in _document(path, text).items():
        if not isinstance(stage, str) or not isinstance(members, dict):
            faults.append(
                f"{path}:{line_of(text, [stage])} {stage}: a stage is a name with a mapping of settings"
            )
        elif "stage" in members:
            faults.append(
                f"{path}:{line_of(text, [stage, 'stage'])} {stage}.stage: the key above is the name"
            )
        else:
            try:
                found[stage] = StageSettings.model_validate({"stage": stage, **members})
            except ValidationError as error:
                faults += _located_faults(error, path, text, stage)
    if faults:
        raise StageSettingsError("; ".join(faults), remedy="Correct the file")
    return found


def stage_in(path: Path, name: str) -> StageSettings:
    """Return one stage of a file.

    Raises:
        StageSettingsError: There is no stage of this name, or the file is wrong.
    """
    (found,) = chosen_stages(path, [name])
    return found


def chosen_stages(path: Path, names: Sequence[str]) -> list[StageSettings]:
    """Return the named stages of a file; all of them, sorted by name, if none is named.

    Raises:
        StageSettingsError: There is no stage of a given name, or the file is wrong.
    """
    stages = stages_in(path)
    if unknown := sorted(set(names) - set(stages)):
        raise StageSettingsError(
            f"{path} has no stage {', '.join(unknown)}",
            remedy=f"Its stages are {', '.join(sorted(stages))}",
        )
    return [stages[name] for name in names or sorted(stages)]


def _document(path: Path, text: str) -> dict[Any, Any]:
    try:
        repeated, document = repeated_member(text), document_in(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise StageSettingsError(
            f"{place} is not valid YAML: {getattr(error, 'problem', None) or error}",
            remedy="Correct the file",
        ) from error
    if repeated is not None:
        line, name = repeated
        raise StageSettingsError(f"{path}:{line} {name}: it is listed twice", remedy="Remove one of the two")
    if not isinstance(document, dict) or not document:
        raise StageSettingsError(
            f"{path} has no stages", remedy="Write each stage as a name with its settings below"
        )
    return document


def _located_faults(error: ValidationError, path: Path, text: str, stage: str) -> list[str]:
    return [
        f"{path}:{line_of(text, [stage, *cause['loc']])} "
        f"{'.'.join(map(str, (stage, *cause['loc'])))}: {cause['msg']}"
        for cause in error.errors(include_url=False, include_context=False)
    ]
