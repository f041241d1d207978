"""The pipelines of the example's models are the reviewed ones."""

from __future__ import annotations

from tests.infra.retraining_definitions import REVIEWED, filled_definitions


def test_example_pipelines_equal_the_reviewed_ones() -> None:
    """Every change of a deployed pipeline appears in a diff for review.

    After an intended change run `python -m tests.infra.retraining_definitions`.
    """
    made = filled_definitions()
    reviewed = {path.name: path.read_text(encoding="utf-8") for path in REVIEWED.glob("*.json")}
    assert set(reviewed) >= {"airport_congestion.json", "flight_delay.json"}
    # Only reviewed files are compared, so adding a model changes none of them.
    assert {name: made.get(name) for name in reviewed} == reviewed
