import pandas as pd


def features(partition, trips):
    days = trips.assign(day=trips["started_at"].dt.date).groupby(["station", "day"]).size()
    rows = days.groupby("station").agg(["mean", "last"]).reset_index()
    rows["weekday"] = pd.Timestamp(partition).dayofweek
    return rows.rename(columns={"station": "entity_id"})
