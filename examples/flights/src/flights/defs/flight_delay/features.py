"""Features of a day's flights, from the schedule and from past delays."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import pandas as pd

_LATE_MINUTES = 15
# Longer delays show that something broke, not how busy the day was.
_LONGEST_DELAY = 240.0
# Weight of the overall mean when a group's mean is computed, as a number of flights.
_PRIOR_FLIGHTS = 10.0
_GROUPS = {
    "carrier_origin": ["carrier", "origin"],
    "route": ["origin", "dest"],
    "flight": ["carrier", "flight", "origin"],
    "hour": ["origin", "hour"],
}


def features(partition: str, flights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per flight of the day's schedule.

    Args:
        partition: The day.
        flights: The day's schedule, and the flights of the days before; values that are unknown when the
            day begins are missing.
    """
    schedule = flights[flights["partition"] == partition].reset_index(drop=True)
    # No flight of the day itself has arrived yet.
    flown = flights.dropna(subset=["arr_delay"])
    flown = flown.assign(
        delay=flown["arr_delay"].clip(upper=_LONGEST_DELAY),
        late=(flown["arr_delay"] >= _LATE_MINUTES).astype("float64"),
    )
    rows = pd.DataFrame(
        {
            "entity_id": _entities(schedule),
            "carrier": schedule["carrier"],
            "flight": schedule["flight"],
            "origin": schedule["origin"],
            "dest": schedule["dest"],
            "scheduled_departure": _departures(schedule),
            "hour": schedule["hour"],
            "minute_of_day": schedule["hour"] * 60 + schedule["minute"],
            "weekday": _departures(schedule).dt.day_of_week,
            "distance": schedule["distance"],
        }
    )
    rows["flights_in_hour"] = schedule.groupby(["origin", "hour"])["flight"].transform("size")
    everybody = {"delay": _mean(flown["delay"]), "late": _mean(flown["late"])}
    for name, keys in _GROUPS.items():
        rows = rows.join(_group_history(flown, keys, everybody).add_prefix(f"{name}_"), on=keys)
        for value, mean in everybody.items():
            rows[f"{name}_{value}"] = rows[f"{name}_{value}"].fillna(mean)
    newest = flown[flown["partition"] == flown["partition"].max()]
    yesterday = _group_history(newest, ["origin"], everybody).add_prefix("yesterday_")
    return rows.join(yesterday, on="origin").fillna(
        {f"yesterday_{name}": everybody[name] for name in everybody}
    )


def _entities(flights: pd.DataFrame) -> pd.Series:
    return flights["carrier"] + "-" + flights["flight"].astype("str") + "-" + flights["origin"]


def _departures(flights: pd.DataFrame) -> pd.Series:
    return flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else 0.0


def _group_history(flown: pd.DataFrame, keys: list[str], everybody: dict[str, float]) -> pd.DataFrame:
    """Return each group's means; for groups with few flights they are close to the overall means."""
    grouped = flown.groupby(keys)
    sums, flights = grouped[list(everybody)].sum(), grouped.size()
    return pd.DataFrame(
        {
            name: (sums[name] + _PRIOR_FLIGHTS * mean) / (flights + _PRIOR_FLIGHTS)
            for name, mean in everybody.items()
        }
    )
