"""`mlpipe init` and `dg scaffold defs` write valid files that work together, and overwrite none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
from dagster.components.scaffold.scaffold import NoParams, ScaffoldRequest
from packaging.specifiers import SpecifierSet

from infra.stages import stages_in
from mlpipe_dagster.cli.main import main
from mlpipe_dagster.components.model_scaffolder import ModelScaffolder
from mlpipe_dagster.components.project_template import TemplateError
from mlpipe_dagster.installed_platform import VERSION
from model_declaration.declaration_files import COMPONENT, declaration_in, declaration_of
from model_declaration.inputs_document import model_inputs
from model_declaration.project import Project
from model_declaration.sample_data import sample_data_folder
from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import InvalidNameError
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.sources.source_tables import SourceTables
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "expected_orders"
CREATED = """from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A new project, whose package can be imported."""
    assert main(["init", str(tmp_path / "acme")]) == 0
    monkeypatch.syspath_prepend(str(tmp_path / "acme" / "src"))
    yield Project.at(tmp_path / "acme")
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme"]:
        del sys.modules[name]


def test_new_project_is_found_and_loaded(acme: Project) -> None:
    """It requires the current minor version of the platform, and its model has its assets."""
    assert (acme.package, acme.location_name, acme.services) == ("acme", "acme", ())
    suitable, (major, minor, _) = SpecifierSet(acme.requires or ""), VERSION.split(".")
    assert VERSION in suitable
    assert f"{major}.{int(minor) + 1}.0" not in suitable
    loaded = importlib.import_module("acme.definitions").defs
    keys = loaded.resolve_asset_graph().get_all_asset_keys()
    assert {dg.AssetKey([MODEL, name]) for name in ("features", "trained_model", "publication")} <= keys


def test_new_project_has_two_valid_stages(acme: Project) -> None:
    """The stages file can be read as it was written, and has dev and prod."""
    assert list(stages_in(acme.stages_file)) == ["dev", "prod"]


def test_new_model_works_on_the_sample_data(acme: Project) -> None:
    """Features, outcomes, training and predictions fit together, and predictions follow the data."""
    declared = declaration_of(MODEL, acme.defs)
    folder = sample_data_folder(acme)
    s3 = MemoryS3()
    for path in folder.rglob("*.csv"):
        s3.objects[path.relative_to(folder).as_posix()] = path.read_bytes()
    functions = ModelFunctions(model_inputs(declared))
    days = [f"2024-03-{day:02}" for day in range(1, 9)]
    with SourceTables(
        functions.inputs,
        ObjectStore(s3, "bucket"),
        last=days[-1],
        secret_text=lambda _: "",
        storage_options={},
    ) as sources:
        read = {day: sources.read(day).tables for day in days}
    features = {day: functions.features(day, read[day]) for day in days}
    outcomes = functions.outcomes(days[-1], read[days[-1]]).to_pandas()
    assert max(outcomes["partition"]) == "2024-03-07"
    learnt = pd.concat(features[day].to_pandas().assign(partition=day) for day in days[:-1])
    examples = learnt.merge(outcomes, on=["partition", "entity_id"])
    model = functions.train(pa.Table.from_pandas(examples))
    predictions = functions.predict(features[days[-1]], model, None, partition=days[-1])
    assert tuple(predictions.columns) == declared.prediction_schema.names
    expected = dict(zip(predictions["entity_id"], predictions["expected_orders"], strict=True))
    assert 40 < expected["shop-5"] - expected["shop-1"] < 120
    previous = predictions.assign(orders=predictions["expected_orders"] + 4)
    corrected = functions.predict(features[days[-1]], model, previous, partition=days[-1])
    assert (corrected["expected_orders"] - predictions["expected_orders"]).round(6).tolist() == [2.0] * 6


@pytest.mark.usefixtures("acme")
def test_sample_data_as_of_a_day_ends_with_it() -> None:
    """`as_of` leaves out only later data, so a leak check sees what a job would have seen."""
    objects = importlib.import_module("acme.sample_data").objects
    everything, known = dict(objects()), dict(objects(as_of="2024-02-01"))
    assert known == {key: content for key, content in everything.items() if key < "raw/orders/dt=2024-02-02"}
    assert dict(objects()) == everything


def files_in(folder: Path) -> dict[Path, bytes]:
    """Return the content of each file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["json", "class", "mlpipe", "Größe", "1st", "infra", "tests", "sagemaker", "pandas", "lightgbm"]
)
def test_unusable_package_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Nothing is written under a name that is invalid or would hide another package."""
    assert main(["init", str(tmp_path / name)]) == 1
    assert "Use letters, digits and hyphens" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_second_init_of_a_project_is_refused(tmp_path: Path) -> None:
    """No file is changed; a hyphen in the project's name is an underscore in the package's."""
    assert main(["init", str(tmp_path / "acme-shop"), "--model", "churn"]) == 0
    assert (tmp_path / "acme-shop" / "src" / "acme_shop" / "defs" / "churn" / "defs.yaml").is_file()
    written = files_in(tmp_path)
    assert main(["init", str(tmp_path / "acme-shop")]) == 1
    assert files_in(tmp_path) == written


def scaffold(root: Path, name: str, *, parent: str = "defs", component: str = COMPONENT) -> Path:
    """Scaffold a model as `dg scaffold defs` does in a project of `create-dagster`, and return its folder."""
    target = root / "src" / "acme" / parent / name
    target.mkdir(parents=True, exist_ok=True)
    package = root / "src" / "acme"
    for path, text in (
        (package / "__init__.py", ""),
        (package / "definitions.py", CREATED),
        (root / "pyproject.toml", '[tool.dg.project]\nroot_module = "acme"\n'),
    ):
        if not path.exists():
            path.write_text(text)
    ModelScaffolder().scaffold(
        ScaffoldRequest(
            type_name=component,
            target_path=target,
            scaffold_format="yaml",
            project_root=root,
            params=NoParams(),
        )
    )
    return target


def test_scaffolded_model_has_declaration_functions_and_test(tmp_path: Path) -> None:
    """The declaration names the component as it was typed, and the project is set up for the platform."""
    old = "mlpipe_dagster.components.prediction_pipeline.PredictionPipeline"
    for name, component in (("churn", COMPONENT), ("value", old)):
        folder = scaffold(tmp_path, name, component=component)
        declared = declaration_in(folder / "defs.yaml")
        assert declared is not None
        assert declared.name == name
        assert f"type: {component}\n" in (folder / "defs.yaml").read_text()
        functions = {f"{each}.py" for each in ("features", "outcomes", "train", "predict")}
        assert {path.name for path in folder.iterdir()} == {"defs.yaml"} | functions
        assert (tmp_path / "tests" / f"test_{name}.py").is_file()
    project = Project.at(tmp_path)
    assert project.sample_data == "acme.sample_data:objects"
    assert (project.package_folder / "sample_data.py").is_file()
    assert "from mlpipe import definitions" in (project.package_folder / "definitions.py").read_text()


def test_existing_functions_and_definitions_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning says that the user's own definitions.py does not load the platform."""
    package = tmp_path / "src" / "acme"
    own = package / "defs" / "churn" / "train.py"
    own.parent.mkdir(parents=True)
    for path in (own, package / "definitions.py"):
        path.write_text("own")
    scaffold(tmp_path, "churn")
    assert [path.read_text() for path in (own, package / "definitions.py")] == ["own", "own"]
    assert "definitions.py does not load the platform" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "parent", "error"),
    [("New-Thing", "defs", InvalidNameError), ("new_thing", "defs/team", TemplateError)],
)
def test_misplaced_or_misnamed_model_folder_is_refused(
    tmp_path: Path, name: str, parent: str, error: type[Exception]
) -> None:
    """A model's folder lies directly below `defs` and has a valid model name."""
    with pytest.raises(error):
        scaffold(tmp_path, name, parent=parent)


def test_existing_model_is_not_scaffolded_again(tmp_path: Path) -> None:
    """The error says that the folder already holds a model or is misplaced, and no file is changed."""
    (scaffold(tmp_path, "churn") / "defs.yaml").write_text("own")
    written = files_in(tmp_path)
    with pytest.raises(TemplateError, match="churn is not directly below defs"):
        scaffold(tmp_path, "churn")
    assert files_in(tmp_path) == written
