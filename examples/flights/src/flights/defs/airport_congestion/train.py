"""Training of the airport congestion model: one linear model on scaled features."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.linear_model import SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_INPUTS = [
    "hour",
    "weekday",
    "scheduled_departures",
    "departures_before",
    "mean_distance",
    "carriers",
    "typical_delay",
    "airport_delay",
    "yesterday_delay",
]


def train(examples: pd.DataFrame) -> dict[str, Any]:
    """Return the model of the mean departure delay of an airport's hour.

    Args:
        examples: Features joined with outcomes, one row per airport and hour with departures.
    """
    # With `epsilon=0` this loss is the absolute error. It fits the median delay, which a few hours of snow
    # hardly change.
    minutes = SGDRegressor(
        loss="epsilon_insensitive", epsilon=0.0, alpha=1e-3, average=True, max_iter=500, random_state=0
    )
    return {
        "inputs": _INPUTS,
        "minutes": make_pipeline(StandardScaler(), minutes).fit(
            examples[_INPUTS], examples["departure_delay_minutes"]
        ),
    }
