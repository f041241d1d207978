"""The arrival delays of the flights of past days."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pandas as pd

_LATE_MINUTES = 15


def outcomes(partition: str, flights: pd.DataFrame) -> pd.DataFrame:
    """Return the minutes of delay of each flight that is known to have arrived when the day begins.

    Args:
        partition: The day.
        flights: The day's schedule, and the flights of the days before; unknown values are missing.
    """
    known = flights[["partition", "carrier", "flight", "origin", "arr_delay"]]
    flown = known[(known["partition"] != partition) & known["arr_delay"].notna()]
    return pd.DataFrame(
        {
            "partition": flown["partition"],
            "entity_id": flown["carrier"] + "-" + flown["flight"].astype("str") + "-" + flown["origin"],
            "arrival_delay_minutes": flown["arr_delay"],
            "arrived_late": flown["arr_delay"] >= _LATE_MINUTES,
        }
    )
