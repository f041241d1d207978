"""Features of each airport's hours of a day, from the schedule and from how the hours went before."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import pandas as pd

# Minutes beyond this say that something broke, not how busy the hour was.
_LONGEST_DELAY = 240.0
# An hour's history counts as much as this many flights of everybody's.
_PRIOR_FLIGHTS = 10.0


def features(partition: str, flights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per airport and hour of the day's schedule.

    Args:
        partition: The day.
        flights: Its schedule, and the flights of the days before it; what is not known when the day begins is
            missing.
    """
    schedule = flights[flights["partition"] == partition]
    # No flight of the day has left.
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
    # What has not left in the hours before is in the way.
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
    """Return each group's mean delay, drawn towards everybody's where the group has few flights."""
    grouped = flights.groupby(keys)["delay"]
    return (grouped.sum() + _PRIOR_FLIGHTS * everybody) / (grouped.size() + _PRIOR_FLIGHTS)
