"""Finds faults of a project's functions, readers and codecs before a job imports them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mlpipe_dagster.cli.development.module_facts import FunctionFacts, ModuleFacts, module_facts, module_path
from model_declaration.project import Project
from prediction_contract.jobs.model_inputs import ModelInputs

# Positional arguments; `features` and `outcomes` take the partition, then sources by name.
_POSITIONAL = {"train": ("examples",), "predict": ("features", "model", "previous")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFault:
    """A fault of a project.

    Attributes:
        where: The file, with `:line` if one line is at fault.
        what: What is wrong, one sentence.
        remedy: What to do about it.
        model: The model concerned; None for the whole project.
    """

    where: str
    what: str
    remedy: str
    model: str | None = None


class ProjectModules:
    """The modules of a project's package, each read once.

    Args:
        project: The project.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._read: dict[str, ModuleFacts | ProjectFault | None] = {}

    def facts(self, module: str) -> ModuleFacts | ProjectFault | None:
        """Return a module's facts, or the fault if it cannot be parsed; None if its file does not exist."""
        if module not in self._read:
            path = module_path(self._project.source_folder, module)
            try:
                self._read[module] = None if path is None else module_facts(path)
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None) or 1
                self._read[module] = ProjectFault(
                    where=f"{path}:{line}", what=f"It is not valid Python: {error}", remedy="Correct the file"
                )
        return self._read[module]

    def faults_of_packages(self, models: Mapping[str, ModelInputs]) -> Iterator[ProjectFault]:
        """Yield faults of the packages' `__init__.py`, which every job imports before a model's functions."""
        package = self._project.package
        for name in (package, f"{package}.defs", *(inputs.functions for inputs in models.values())):
            match self.facts(name):
                case ProjectFault() as fault:
                    yield fault
                case ModuleFacts(path=path, imports=imports) if path.name == "__init__.py":
                    for line, imported in imports:
                        if imported.split(".")[0] in sys.stdlib_module_names:
                            continue
                        yield ProjectFault(
                            where=f"{path}:{line}",
                            what=f"It imports {imported}, but every job imports this file, and not every "
                            "job's environment has it",
                            remedy="Import it in the module that uses it",
                        )

    def faults_of_object(
        self, named: str, field: str, where: str, model: str | None
    ) -> Iterator[ProjectFault]:
        """Yield faults of an object that a declaration names as `module:name`.

        Args:
            named: The object; one outside the project's package is not checked.
            field: The field that names it.
            where: The file with that field.
            model: The model.
        """
        module, _, name = named.partition(":")
        if module.split(".")[0] != self._project.package:
            return
        match self.facts(module):
            case None:
                yield ProjectFault(
                    where=where,
                    what=f"{field} names {named}, but the project has no module {module}",
                    remedy="Add the module, or correct the name",
                    model=model,
                )
            case ProjectFault() as fault:
                yield fault
            case ModuleFacts(names=names, is_complete=True, path=path) if name not in names:
                yield ProjectFault(
                    where=str(path),
                    what=f"It does not define {name}, which {field} of {where} names",
                    remedy="Define it, or correct the name",
                    model=model,
                )

    def faults_of_functions(self, inputs: ModelInputs, *, is_trained_here: bool) -> Iterator[ProjectFault]:
        """Yield faults of a model's functions.

        Args:
            inputs: The model's inputs.
            is_trained_here: Whether the declaration has `training`.
        """
        needed = [] if inputs.prepared else ["features"]
        needed += ["outcomes"] if inputs.outcomes else []
        needed += ["train"] if is_trained_here else []
        for name in (*needed, "predict"):
            yield from self._faults_of_function(name, inputs)

    def _faults_of_function(self, name: str, inputs: ModelInputs) -> Iterator[ProjectFault]:
        module = f"{inputs.functions}.{name}"
        match self.facts(module):
            case None:
                yield ProjectFault(
                    where=str(self._project.source_folder.joinpath(*module.split("."))) + ".py",
                    what="It is missing",
                    remedy=f"Add it with a function {name}",
                    model=inputs.model,
                )
            case ProjectFault() as fault:
                yield replace(fault, model=inputs.model)
            case ModuleFacts(path=path, names=names, functions=functions, is_complete=is_complete):
                if name not in names and is_complete:
                    yield ProjectFault(
                        where=str(path),
                        what=f"It defines no function {name}",
                        remedy=f"Define {name} in it",
                        model=inputs.model,
                    )
                elif name in functions:
                    found = functions[name]
                    what = _parameter_fault(name, found, [source.name for source in inputs.sources])
                    if what is not None:
                        yield ProjectFault(
                            where=f"{path}:{found.line}",
                            what=what,
                            remedy="Correct the parameters, or the sources in defs.yaml",
                            model=inputs.model,
                        )


def _parameter_fault(name: str, function: FunctionFacts, sources: list[str]) -> str | None:
    """Return why the platform cannot call a function; None if it can."""
    expected = _POSITIONAL.get(name, ("partition",))
    if len(function.positional) < len(expected) and not function.has_args:
        count = len(function.positional)
        return f"{name} has {count} positional parameters, but is called with {', '.join(expected)}"
    by_name = {*function.positional[len(expected) :], *function.by_name}
    given = set() if name in _POSITIONAL else set(sources)
    if missing := sorted(by_name - function.with_default - given):
        return f"{name} takes {', '.join(missing)}, which {_not_a_source(given)}"
    if (left := sorted(given - by_name)) and not function.has_kwargs:
        return f"{name} does not take {', '.join(left)}, which the declaration names as a source"
    return None


def _not_a_source(sources: set[str]) -> str:
    return f"is not a source: use {', '.join(sorted(sources))}" if sources else "the platform does not pass"
