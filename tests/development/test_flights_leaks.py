"""The example's own models see nothing of the future, and a reader of theirs that did would be noticed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from model_declaration.project import Project
from tests.development.copied_projects import ROOT, CopiedProject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def flights(tmp_path: Path) -> CopiedProject:
    """A copy of the example."""
    left_out = shutil.ignore_patterns(".*", "__pycache__")
    return CopiedProject(
        Project.at(shutil.copytree(ROOT / "examples" / "flights", tmp_path / "flights", ignore=left_out))
    )


def test_no_model_of_the_example_sees_the_future(
    flights: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with the example, and nothing of a day is known when it begins."""
    status, document = flights.json(capfd, "check", "--leaks")
    assert (status, document["faults"]) == (0, [])
    assert {each["model"]: each["leaks"] for each in document["leaks"]} == {
        "airport_congestion": [],
        "flight_delay": [],
    }


def test_an_arrival_that_is_told_too_early_is_noticed(
    flights: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """A flight that lands after midnight is not known at midnight."""
    flights.change(
        "readers.py", "known.loc[~(arrived <= moment), list(ARRIVAL_COLUMNS)] = np.nan", "del arrived"
    )
    status, document = flights.json(capfd, "check", "flight_delay", "--leaks")
    [looked] = document["leaks"]
    assert status == 1
    found = {(leak["function"], leak["column"]) for leak in looked["leaks"]}
    assert {("features", "yesterday_delay"), ("features", "route_delay")} <= found
    # Of entities that are there only with later data no column is told.
    assert ("outcomes", None) in found
