"""Features of each airport's hours of a day, from the schedule and from past delays."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import pandas as pd

# Longer delays show that something broke, not how busy the hour was.
_LONGEST_DELAY = 240.0
# Weight of the overall mean when a group's mean is computed, as a number of flights.
_PRIOR_FLIGHTS = 10.0


def features(partition: str, flights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per airport and hour of the day's schedule.

    Args:
        partition: The day.
        flights: The day's schedule, and the flights of the days before; values that are unknown when the
            day begins are missing.
    """
    schedule = flights[flights["partition"] == partition]
    # No flight of the day itself has left yet.
    departed = flights.dropna(subset=["dep_delay"])
    departed = departed.assign(delay=departed["dep_delay"].clip(upper=_LONGEST_DELAY))
    everybody = float(departed["delay"].mean()) if len(departed) else 0.0
    grouped = schedule.groupby(["origin", "hour"])
    rows = pd.DataFrame(
        {
            "scheduled_departures": grouped.size(),
            "hour_start": grouped["time_hour"].min(),
            "mean_distance": grouped["distance"].mean(),
            "carriers": grouped["carrier"].nunique(),
        }
    ).reset_index()
    rows.insert(0, "entity_id", _entities(rows))
    rows["weekday"] = rows["hour_start"].dt.day_of_week
    # Delayed flights of earlier hours compete with those of this hour.
    rows["departures_before"] = rows.groupby("origin")["scheduled_departures"].cumsum()
    rows["departures_before"] -= rows["scheduled_departures"]
    newest = departed[departed["partition"] == departed["partition"].max()]
    for name, given, keys in (
        ("typical_delay", departed, ["origin", "hour"]),
        ("airport_delay", departed, ["origin"]),
        ("yesterday_delay", newest, ["origin"]),
    ):
        rows = rows.join(_mean_delay(given, keys, everybody).rename(name), on=keys)
        rows[name] = rows[name].fillna(everybody)
    return rows


def _entities(hours: pd.DataFrame) -> pd.Series:
    return hours["origin"] + "-" + hours["hour"].astype("str")


def _mean_delay(flights: pd.DataFrame, keys: list[str], everybody: float) -> pd.Series:
    """Return each group's mean delay; for groups with few flights it is close to the overall mean."""
    grouped = flights.groupby(keys)["delay"]
    return (grouped.sum() + _PRIOR_FLIGHTS * everybody) / (grouped.size() + _PRIOR_FLIGHTS)
