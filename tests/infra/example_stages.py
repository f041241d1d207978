"""The example project's stages, and variations of `prod`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from infra.settings import StageSettings
from infra.stages import stages_in
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES = stages_in(EXAMPLE.stages_file)
PROD = STAGES["prod"]


def stage_text(change: Callable[[dict[str, Any]], object], name: str = "prod") -> str:
    """Return a `stages.yaml` with a changed copy of `prod` under this name."""
    stages: Any = yaml.safe_load(EXAMPLE.stages_file.read_text(encoding="utf-8"))
    members = stages["prod"]
    change(members)
    return str(yaml.safe_dump({name: members}, sort_keys=False))


def changed_stage(**members: Any) -> StageSettings:
    """Return `prod` with changed members, validated like a file's."""
    return StageSettings.model_validate({**PROD.model_dump(), **members})
