"""The departure delays of past days, by airport and hour."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pandas as pd

# Longer delays show that something broke, not how busy the hour was.
_LONGEST_DELAY = 240.0


def outcomes(partition: str, flights: pd.DataFrame) -> pd.DataFrame:
    """Return mean departure delays by past day, airport and hour, as known when the day begins.

    Args:
        partition: The day.
        flights: The day's schedule, and the flights of the days before; unknown values are missing.
    """
    known = flights[["partition", "origin", "hour", "dep_delay"]]
    departed = known[(known["partition"] != partition) & known["dep_delay"].notna()]
    departed = departed.assign(delay=departed["dep_delay"].clip(upper=_LONGEST_DELAY))
    hours = departed.groupby(["partition", "origin", "hour"])["delay"].mean().reset_index()
    return pd.DataFrame(
        {
            "partition": hours["partition"],
            "entity_id": hours["origin"] + "-" + hours["hour"].astype("str"),
            "departure_delay_minutes": hours["delay"],
        }
    )
