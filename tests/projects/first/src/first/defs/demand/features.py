import pandas as pd


def features(partition, trips, weather, closures, zones):
    days = trips.assign(day=trips["started_at"].dt.date).groupby(["station", "day"])
    counts = days.size().groupby("station")
    rows = pd.DataFrame({"mean_trips": counts.mean(), "last_trips": counts.last()})
    rows["revenue"] = days["price"].sum().groupby("station").mean().astype("float64")
    rows["degrees"] = weather[weather["day"] == partition].groupby("station")["degrees"].mean()
    rows["docks"] = zones.set_index("station")["docks"]
    rows["is_closed"] = rows.index.isin(closures[closures["day"].astype(str) == partition]["station"])
    rows["weekday"] = pd.Timestamp(partition).dayofweek
    return rows.rename_axis("entity_id").reset_index()
