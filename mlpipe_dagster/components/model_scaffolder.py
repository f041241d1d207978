"""`dg scaffold defs`: a new model's `defs.yaml`, and the three functions that are the user's own part."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import ModelName

_TEMPLATE = Path(__file__).with_name("new_model")


class ScaffoldError(ContractError):
    """A model cannot be made where it was asked for."""


class ModelScaffolder(dg.Scaffolder):
    """Writes a small model that loads, trains and scores as it stands; a person makes their own of it."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write `defs.yaml` and the functions into the new folder.

        Functions that are there already are left as they are.

        Raises:
            InvalidNameError: The folder's name is no model name.
            ScaffoldError: The folder is somewhere else than directly below `defs`, or holds a model.
        """
        target = request.target_path
        ModelName(target.name)
        if request.scaffold_format != "yaml" or request.append:
            raise ScaffoldError("A model is one defs.yaml of its own", remedy="Leave out --format and append")
        if target.parent.name != "defs" or (target / "defs.yaml").exists():
            raise ScaffoldError(
                f"{target} is no place for a new model", remedy="Name a folder that is not there yet: a model"
            )
        for path in sorted(_TEMPLATE.iterdir()):
            if path.is_file() and not (target / path.name).exists():
                shutil.copyfile(path, target / path.name)
