"""Training of the flight delay model: two linear models on scaled features."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression, SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_INPUTS = [
    "minute_of_day",
    "weekday",
    "distance",
    "flights_in_hour",
    "carrier_origin_delay",
    "carrier_origin_late",
    "route_delay",
    "route_late",
    "flight_delay",
    "flight_late",
    "hour_delay",
    "hour_late",
    "yesterday_delay",
    "yesterday_late",
]


def train(examples: pd.DataFrame) -> dict[str, Any]:
    """Return the models of a flight's probability of being late and of its minutes of delay.

    Args:
        examples: Features joined with outcomes, one row per flight that arrived.
    """
    # With `epsilon=0` this loss is the absolute error. It fits the median delay, which a few flights that
    # are hours late hardly change.
    minutes = SGDRegressor(
        loss="epsilon_insensitive", epsilon=0.0, alpha=1e-3, average=True, max_iter=200, random_state=0
    )
    return {
        "inputs": _INPUTS,
        "late": make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(
            examples[_INPUTS], examples["arrived_late"]
        ),
        "minutes": make_pipeline(StandardScaler(), minutes).fit(
            examples[_INPUTS], examples["arrival_delay_minutes"]
        ),
    }
