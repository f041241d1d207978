"""The example's models do not use future data, and a reader that did would be found."""

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
    """A copy of the example project."""
    left_out = shutil.ignore_patterns(".*", "__pycache__")
    return CopiedProject(
        Project.at(shutil.copytree(ROOT / "examples" / "flights", tmp_path / "flights", ignore=left_out))
    )


def test_no_example_model_leaks_future_data(
    flights: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """`mlpipe check --leaks` finds neither faults nor leaks in the example."""
    status, document = flights.json(capfd, "check", "--leaks")
    assert (status, document["faults"]) == (0, [])
    assert {each["model"]: each["leaks"] for each in document["leaks"]} == {
        "airport_congestion": [],
        "flight_delay": [],
    }


def test_arrival_known_too_early_is_found(flights: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A reader that shows a flight's arrival before it landed changes features and outcomes."""
    flights.change(
        "readers.py", "known.loc[~(arrived <= moment), list(ARRIVAL_COLUMNS)] = np.nan", "del arrived"
    )
    status, document = flights.json(capfd, "check", "flight_delay", "--leaks")
    [looked] = document["leaks"]
    assert status == 1
    found = {(leak["function"], leak["column"]) for leak in looked["leaks"]}
    assert {("features", "yesterday_delay"), ("features", "route_delay")} <= found
    # An entity that exists only with later data is reported without a column.
    assert ("outcomes", None) in found
