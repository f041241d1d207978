"""The pipelines of the example's models, as a person has reviewed them."""

from __future__ import annotations

from tests.infra.retraining_definitions import REVIEWED, filled_definitions


def test_the_pipelines_of_the_example_are_those_that_were_reviewed() -> None:
    """Whatever changes in a deployed pipeline is a diff that somebody reads.

    If it changes on purpose, run `python -m tests.infra.retraining_definitions`.
    """
    made = filled_definitions()
    reviewed = {path.name: path.read_text(encoding="utf-8") for path in REVIEWED.glob("*.json")}
    assert set(reviewed) >= {"airport_congestion.json", "flight_delay.json"}
    # Whoever adds models of their own changes no reviewed file.
    assert {name: made.get(name) for name in reviewed} == reviewed
