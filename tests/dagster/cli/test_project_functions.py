"""A project's functions, readers and codecs are checked by their source, before a job imports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.cli.development.function_faults import ProjectFault, ProjectModules
from model_declaration.project import Project
from prediction_contract.jobs.model_inputs import ModelInputs, Source

if TYPE_CHECKING:
    from pathlib import Path

_MARKER = '[tool.dg.project]\nroot_module = "acme"\n\n[tool.mlpipe]\n'
_FUNCTIONS = {
    "features": "def features(partition, orders, rates): ...\n",
    "outcomes": "def outcomes(partition, **sources): ...\n",
    "train": "def train(examples): ...\n",
    "predict": "def predict(features, model, previous): ...\n",
}
INPUTS = ModelInputs(
    model="churn",
    functions="acme.defs.churn",
    sources=(Source(name="orders", format="csv"), Source(name="rates", format="csv")),
    outcomes=True,
)


@pytest.fixture
def modules(tmp_path: Path) -> ProjectModules:
    """A project with one model whose functions are valid."""
    folder = tmp_path / "src" / "acme" / "defs" / "churn"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(_MARKER)
    for name in ("__init__", "defs/__init__"):
        (tmp_path / "src" / "acme" / f"{name}.py").touch()
    for name, text in _FUNCTIONS.items():
        (folder / f"{name}.py").write_text(text)
    return ProjectModules(Project.at(tmp_path))


def write(tmp_path: Path, name: str, text: str) -> None:
    """Write a module of the model."""
    (tmp_path / "src" / "acme" / "defs" / "churn" / f"{name}.py").write_text(text)


def function_faults(modules: ProjectModules) -> list[ProjectFault]:
    """Return the faults in the model's functions."""
    return list(modules.faults_of_functions(INPUTS, is_trained_here=True))


def test_valid_functions_have_no_fault(modules: ProjectModules) -> None:
    """Sources are taken by name or by `**`, and the other functions' parameters by position."""
    assert function_faults(modules) == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("features", "def feature(partition): ...\n", ("", "It defines no function features")),
        ("features", "def features(partition, order, rates): ...\n", (":1", "features takes order")),
        ("features", "def features(partition, rates): ...\n", (":1", "features does not take orders")),
        ("features", "def features(\n", (":1", "It is not valid Python")),
        ("outcomes", "\ndef outcomes(*, rates): ...\n", (":2", "outcomes has 0 positional parameters")),
        ("train", "def train(): ...\n", (":1", "train has 0 positional parameters")),
        (
            "predict",
            "def predict(features, model): ...\n",
            (":1", "is called with features, model, previous"),
        ),
        (
            "predict",
            "def predict(features, model, previous, now): ...\n",
            (":1", "which the platform does not pass"),
        ),
    ],
)
def test_function_that_cannot_be_called_is_a_fault(
    modules: ProjectModules, tmp_path: Path, name: str, text: str, told: tuple[str, str]
) -> None:
    """The fault names the file, the line and what does not fit the declaration."""
    write(tmp_path, name, text)
    [fault] = function_faults(modules)
    assert fault.where.endswith(f"churn/{name}.py{told[0]}")
    assert told[1] in fault.what
    assert fault.model == "churn"


@pytest.mark.parametrize(
    "text",
    [
        "from acme.features import features\n",
        "from acme.features import *\n",
        "if True:\n    def features(partition, orders, rates): ...\n",
        "features = lambda partition, orders, rates: None\n",
    ],
)
def test_function_may_be_imported_or_assigned(modules: ProjectModules, tmp_path: Path, text: str) -> None:
    """Such a function counts as defined, and its parameters are not checked."""
    write(tmp_path, "features", text)
    assert function_faults(modules) == []


def test_missing_function_is_a_fault(modules: ProjectModules, tmp_path: Path) -> None:
    """A model that is trained here needs train.py; one that is trained elsewhere does not."""
    (tmp_path / "src" / "acme" / "defs" / "churn" / "train.py").unlink()
    [fault] = function_faults(modules)
    assert (fault.what, fault.remedy) == ("It is missing", "Add it with a function train")
    assert list(modules.faults_of_functions(INPUTS, is_trained_here=False)) == []


def test_package_that_imports_dagster_is_a_fault(modules: ProjectModules, tmp_path: Path) -> None:
    """A job imports the package before the functions, in an environment without Dagster."""
    package = tmp_path / "src" / "acme" / "__init__.py"
    package.write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport dagster as dg\n"
        "if TYPE_CHECKING:\n    import pandas\n"
    )
    told = [
        (fault.where, fault.what.split(",")[0]) for fault in modules.faults_of_packages({"churn": INPUTS})
    ]
    assert told == [(f"{package}:3", "It imports dagster")]


def test_named_reader_must_exist(modules: ProjectModules, tmp_path: Path) -> None:
    """It is looked for in the project's own package, and in no other."""
    (tmp_path / "src" / "acme" / "readers.py").write_text("class Orders: ...\n")

    def object_faults(named: str) -> list[str]:
        return [each.what for each in modules.faults_of_object(named, "reader", "defs.yaml", "churn")]

    assert object_faults("acme.readers:Orders") == object_faults("elsewhere.readers:Orders") == []
    assert object_faults("acme.readers:Others") == [
        "It does not define Others, which reader of defs.yaml names"
    ]
    assert object_faults("acme.codecs:Own") == [
        "reader names acme.codecs:Own, but the project has no module acme.codecs"
    ]
