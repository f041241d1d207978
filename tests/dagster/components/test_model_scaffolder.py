"""A new model: its folder with a valid declaration, and three functions that work together."""

from __future__ import annotations

import importlib
from pathlib import Path

import pandas as pd
import pytest
from dagster.components.scaffold.scaffold import NoParams, ScaffoldRequest

from mlpipe_dagster.components.model_scaffolder import ModelScaffolder, ScaffoldError
from model_declaration.declaration_files import COMPONENT, declaration_in
from prediction_contract.errors import InvalidNameError


def scaffold(root: Path, name: str, *, parent: str = "defs") -> Path:
    """Scaffold a model as `dg scaffold defs` does, and return its folder."""
    target = root / "acme" / parent / name
    target.mkdir(parents=True, exist_ok=True)
    ModelScaffolder().scaffold(
        ScaffoldRequest(
            type_name=COMPONENT,
            target_path=target,
            scaffold_format="yaml",
            project_root=root,
            params=NoParams(),
        )
    )
    return target


def test_a_new_model_is_a_declaration_and_three_functions(tmp_path: Path) -> None:
    """The declaration is valid as it stands, and the functions lie beside it."""
    folder = scaffold(tmp_path, "new_thing")
    declared = declaration_in(folder / "defs.yaml")
    assert declared is not None
    assert declared.name == "new_thing"
    assert {path.name for path in folder.iterdir()} == {"defs.yaml", "features.py", "train.py", "predict.py"}


def test_functions_that_are_there_stay(tmp_path: Path) -> None:
    """Whoever wrote the functions first loses nothing."""
    own = tmp_path / "acme" / "defs" / "new_thing" / "train.py"
    own.parent.mkdir(parents=True)
    own.write_text("own")
    scaffold(tmp_path, "new_thing")
    assert own.read_text() == "own"


@pytest.mark.parametrize(
    ("name", "parent", "error"),
    [("New-Thing", "defs", InvalidNameError), ("new_thing", "defs/team", ScaffoldError)],
)
def test_a_folder_that_nobody_would_find_is_refused(
    tmp_path: Path, name: str, parent: str, error: type[Exception]
) -> None:
    """A model's folder lies directly below `defs` and has a model's name."""
    with pytest.raises(error):
        scaffold(tmp_path, name, parent=parent)


def test_a_model_is_not_scaffolded_over_another(tmp_path: Path) -> None:
    """The declaration that is there is left alone."""
    scaffold(tmp_path, "new_thing")
    with pytest.raises(ScaffoldError, match="new_thing is no place"):
        scaffold(tmp_path, "new_thing")


def test_the_functions_give_what_the_declaration_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, training and prediction fit together, with a previous batch and without one."""
    declared = declaration_in(scaffold(tmp_path, "new_thing") / "defs.yaml")
    assert declared is not None
    monkeypatch.syspath_prepend(str(tmp_path))
    features, train, predict = (
        getattr(importlib.import_module(f"acme.defs.new_thing.{name}"), name)
        for name in ("features", "train", "predict")
    )
    schedule = pd.DataFrame({"origin": ["JFK", "JFK", "EWR"]})
    history = pd.DataFrame(
        {"partition": "2013-01-01", "origin": ["JFK", "EWR", "EWR"], "dep_delay": [4.0, 2.0, None]}
    )
    prepared = features(schedule, history)
    assert prepared.features.to_dict("list") == {"entity_id": ["EWR", "JFK"], "flights": [1, 2]}
    artifact = train(prepared.features.merge(prepared.outcomes, on="entity_id"))
    first = predict(prepared.features, artifact, None)
    assert first["expected_delay_minutes"].tolist() == [3.0, 3.0]
    assert tuple(first.columns) == declared.prediction_schema.names
    previous = first.assign(mean_delay_minutes=[5.0, 5.0])
    assert predict(prepared.features, artifact, previous)["expected_delay_minutes"].tolist() == [4.0, 4.0]
