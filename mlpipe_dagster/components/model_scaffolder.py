"""`dg scaffold defs`: writes a new model's `defs.yaml` and its functions."""

from __future__ import annotations

import sys

import dagster as dg

from mlpipe_dagster.components.project_template import (
    TemplateError,
    TemplateNames,
    complete_project,
    write_model,
    write_model_tests,
)
from prediction_contract.naming.batch import ModelName


class ModelScaffolder(dg.Scaffolder):
    """Writes a small but complete model that loads, trains and scores; users then adapt it."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write `defs.yaml` and the functions into the new folder, and add missing files to the project.

        Existing files are left unchanged.

        Raises:
            InvalidNameError: The folder's name is not a valid model name.
            TemplateError: The folder is not directly below `defs`, or already holds a model.
        """
        target = request.target_path
        model = ModelName(target.name)
        if request.scaffold_format != "yaml" or request.append:
            raise TemplateError("Each model needs its own defs.yaml", remedy="Leave out --format and append")
        if target.parent.name != "defs" or (target / "defs.yaml").exists():
            raise TemplateError(
                f"{target} is not directly below defs, or already holds a model",
                remedy="Give a new model's name",
            )
        package_folder = target.parents[1]
        names = TemplateNames(package_folder.name, package_folder.name, str(model), request.type_name)
        write_model(target, names)
        if request.project_root is None:
            return
        written = write_model_tests(request.project_root, names)
        for path in (*written, *complete_project(request.project_root, package_folder, names)):
            sys.stdout.write(f"Wrote {path}\n")
        definitions = package_folder / "definitions.py"
        if "mlpipe" not in definitions.read_text(encoding="utf-8"):
            sys.stderr.write(
                f"{definitions} does not load the platform. Merge `mlpipe.definitions(__file__)` into its "
                "definitions.\n"
            )
