"""Finds faults of a project's files: settings, declarations, functions, lock files, stages, sample data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from mlpipe_dagster.cli.development.function_faults import ProjectFault, ProjectModules
from mlpipe_dagster.cli.development.sample_coverage import sample_faults
from mlpipe_dagster.installed_platform import PLATFORM, program_environment
from model_declaration.declaration import ModelDeclaration
from model_declaration.declaration_files import DeclarationError, declaration_in, declarations_in
from model_declaration.declared_models import FILE_NAME, declared_names
from model_declaration.inputs_document import model_inputs
from model_declaration.job_requirements import requirements_faults
from model_declaration.project import MARKER, Project

_STAGES = "infra.stage_faults"
_SECONDS = 60


def project_faults(project: Project) -> list[ProjectFault]:
    """Return all faults of a project.

    Its files are read, not imported. If they have no faults, the generator writes the sample data in a
    process of its own, and that is checked too.
    """
    declarations: dict[str, ModelDeclaration] = {}
    found = list(_faults_of_files(project, declarations))
    return found or [*_faults_of_stages(project), *sample_faults(project, declarations.values())]


def _faults_of_files(project: Project, declarations: dict[str, ModelDeclaration]) -> Iterator[ProjectFault]:
    """Yield faults of the files, and add the valid declarations to `declarations`."""
    yield from _faults_of_marker(project)
    for name in declared_names(project.defs):
        path = project.defs / name / FILE_NAME
        try:
            found = declaration_in(path)
        except DeclarationError as error:
            yield ProjectFault(where=str(path), what=error.what, remedy=error.remedy, model=name)
            continue
        if found is None:
            yield ProjectFault(
                where=str(path),
                what="It does not declare one model in plain values: it has templates or other components, "
                "or is not YAML",
                remedy="Write plain values; `dg check yaml` finds syntax errors",
                model=name,
            )
        else:
            declarations[name] = found
    yield from _faults_between(project, declarations)
    yield from _faults_of_code(project, declarations)
    families = {declaration.requirements for declaration in declarations.values()}
    for sentence in requirements_faults(project, PLATFORM, sorted(families, key=str)):
        what, _, remedy = sentence.rstrip(".").rpartition(". ")
        yield ProjectFault(where=str(project.requirements), what=what, remedy=remedy)


def _faults_of_marker(project: Project) -> Iterator[ProjectFault]:
    where = f"{project.root / MARKER} [tool.mlpipe]"
    modules = ProjectModules(project)
    if project.sample_data is not None:
        yield from modules.faults_of_object(project.sample_data, "sample_data", where, None)
    for service in project.services:
        if service.module.split(".")[0] == project.package and modules.facts(service.module) is None:
            yield ProjectFault(
                where=where,
                what=f"The service {service.name} has no module {service.module} in the project",
                remedy="Add the module, or correct its name",
            )


def _faults_between(project: Project, declarations: Mapping[str, ModelDeclaration]) -> Iterator[ProjectFault]:
    """Yield faults between models: names that would share AWS names."""
    if len(declarations) == len(declared_names(project.defs)):
        try:
            declarations_in(project.defs)
        except DeclarationError as error:
            yield ProjectFault(where=str(project.defs), what=error.what, remedy=error.remedy)


def _faults_of_code(project: Project, declarations: Mapping[str, ModelDeclaration]) -> Iterator[ProjectFault]:
    modules = ProjectModules(project)
    inputs = {name: model_inputs(declaration) for name, declaration in declarations.items()}
    yield from modules.faults_of_packages(inputs)
    for name, declaration in declarations.items():
        where = str(project.defs / name / FILE_NAME)
        yield from modules.faults_of_functions(inputs[name], is_trained_here=declaration.training is not None)
        named = [
            (f"sources.{source.name}.reader", source.reader)
            for source in inputs[name].sources
            if source.reader
        ]
        named += [("codecs", codec) for codec in inputs[name].codecs]
        named += [("training.metrics", each.function) for each in inputs[name].metrics if each.function]
        for field, found in named:
            yield from modules.faults_of_object(found, field, where, name)


def _faults_of_stages(project: Project) -> Iterator[ProjectFault]:
    """Yield the faults that the platform's program finds in `stages.yaml`."""
    done = subprocess.run(
        [sys.executable, "-m", _STAGES],
        # The platform's packages are in this folder, both in a checkout and when installed.
        cwd=PLATFORM,
        env=program_environment(project, os.environ),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    where = str(project.stages_file)
    if done.returncode:
        what = f"It cannot be checked: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}"
        yield ProjectFault(where=where, what=what, remedy="Correct the named value")
        return
    for fault in json.loads(done.stdout):
        yield ProjectFault(where=where, what=fault["what"], remedy=fault["remedy"])
