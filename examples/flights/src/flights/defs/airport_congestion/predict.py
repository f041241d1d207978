"""Prediction of a day's congestion by airport and hour, corrected by the previous batch's errors."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

# Chosen by training on 1 to 17 January and scoring the days up to the 30th.
_CORRECTED_SHARE = 0.2
_LARGEST_ERROR = 60.0
_LARGEST_CORRECTION = 15.0
_CONGESTED_MINUTES = 15.0


def predict(features: pd.DataFrame, model: dict[str, Any], previous: pd.DataFrame | None) -> pd.DataFrame:
    """Return the expected departure delay of each airport and hour, and whether it is congested.

    Args:
        features: The day's airport hours.
        model: The object that `train` returned.
        previous: The previous batch's predictions with their outcomes; None if there is none.
    """
    correction = _correction(features, previous)
    minutes = model["minutes"].predict(features[model["inputs"]]) + correction
    return pd.DataFrame(
        {
            "entity_id": features["entity_id"],
            "origin": features["origin"],
            "hour": features["hour"],
            "hour_start": features["hour_start"],
            "scheduled_departures": features["scheduled_departures"],
            "typical_delay_minutes": features["typical_delay"],
            "expected_departure_delay_minutes": _hundredths(minutes),
            "congested": minutes >= _CONGESTED_MINUTES,
            "correction_minutes": None if previous is None else _hundredths(correction),
        }
    )


def _correction(features: pd.DataFrame, previous: pd.DataFrame | None) -> np.ndarray:
    """Return a correction in minutes per airport, from the errors of the previous batch."""
    if previous is None or previous.empty:
        return np.zeros(len(features))
    predicted = previous["expected_departure_delay_minutes"].astype("float64")
    error = (previous["departure_delay_minutes"] - predicted).clip(-_LARGEST_ERROR, _LARGEST_ERROR)
    corrections = error.groupby(previous["origin"]).median() * _CORRECTED_SHARE
    bounded = corrections.clip(-_LARGEST_CORRECTION, _LARGEST_CORRECTION)
    return features["origin"].map(bounded).fillna(0.0).to_numpy()


def _hundredths(minutes: np.ndarray) -> list[Decimal]:
    return [Decimal(f"{value:.2f}") for value in minutes]
