"""Faults of a project's stages, for `mlpipe check`: `python -m infra.stage_faults` prints them as JSON.

A project without `stages.yaml` has no faults: it has not been deployed yet.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra.provisioned_models import provisioned_models
from infra.source_access import stage_source_statements
from infra.stages import stages_in
from model_declaration.project import Project
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator


def stage_faults(project: Project) -> Iterator[ContractError]:
    """Yield the faults in the project's files that would prevent a deployment to its stages."""
    if not project.stages_file.is_file():
        return
    try:
        stages = stages_in(project.stages_file)
    except ContractError as error:
        yield error
        return
    models = provisioned_models(project)
    for settings in stages.values():
        try:
            stage_source_statements(settings, models)
        except ContractError as error:
            yield error


def main() -> int:
    """Print the faults of the current project's stages."""
    project = Project.find(os.environ, Path.cwd())
    found = [{"what": each.what, "remedy": each.remedy} for each in stage_faults(project)]
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
