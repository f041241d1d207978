"""Prediction of a day's flight delays, corrected by the previous batch's errors."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

_GROUP = ["carrier", "origin"]
# Chosen by training on 1 to 17 January and scoring the days up to the 30th. A group with few flights gets a
# smaller correction.
_CORRECTED_SHARE = 0.2
_PRIOR_FLIGHTS = 10.0
_LARGEST_ERROR = 60.0
_LARGEST_CORRECTION = 15.0
# A minute of correction adds this to the log odds of being late.
_LOG_ODDS_PER_MINUTE = 0.02
_LATE_PROBABILITY = 0.5


def predict(features: pd.DataFrame, model: dict[str, Any], previous: pd.DataFrame | None) -> pd.DataFrame:
    """Return each flight's probability of arriving 15 or more minutes late and its minutes of delay.

    Args:
        features: The day's flights.
        model: The object that `train` returned.
        previous: The previous batch's predictions with their outcomes; None if there is none.
    """
    inputs = features[model["inputs"]]
    correction = _correction(features, previous)
    minutes = model["minutes"].predict(inputs) + correction
    log_odds = model["late"].decision_function(inputs) + _LOG_ODDS_PER_MINUTE * correction
    probability = 1 / (1 + np.exp(-log_odds))
    return pd.DataFrame(
        {
            "entity_id": features["entity_id"],
            "carrier": features["carrier"],
            "flight_number": features["flight"],
            "origin": features["origin"],
            "destination": features["dest"],
            "scheduled_departure": features["scheduled_departure"],
            "distance_miles": features["distance"],
            "delay_probability": probability,
            "expected_delay_minutes": _hundredths(minutes),
            "likely_late": probability >= _LATE_PROBABILITY,
            "correction_minutes": None if previous is None else _hundredths(correction),
        }
    )


def _correction(features: pd.DataFrame, previous: pd.DataFrame | None) -> np.ndarray:
    """Return a correction in minutes per carrier and origin, from the errors of the previous batch."""
    if previous is None or previous.empty:
        return np.zeros(len(features))
    error = previous["arrival_delay_minutes"] - previous["expected_delay_minutes"].astype("float64")
    grouped = error.clip(-_LARGEST_ERROR, _LARGEST_ERROR).groupby([previous[name] for name in _GROUP])
    size = grouped.size()
    shrunk = grouped.median() * size / (size + _PRIOR_FLIGHTS)
    corrections = (shrunk * _CORRECTED_SHARE).clip(-_LARGEST_CORRECTION, _LARGEST_CORRECTION)
    joined = features[_GROUP].join(corrections.rename("correction"), on=_GROUP)
    return joined["correction"].fillna(0.0).to_numpy()


def _hundredths(minutes: np.ndarray) -> list[Decimal]:
    return [Decimal(f"{value:.2f}") for value in minutes]
