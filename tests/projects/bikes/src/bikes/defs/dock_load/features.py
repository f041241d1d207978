import polars as pl


def features(partition, readings):
    load = readings.with_columns(load=pl.col("bikes") / pl.col("docks")).sort("at")
    return (
        load.group_by("station", maintain_order=True)
        .agg(pl.col("load").mean().alias("mean"), pl.col("load").last().alias("last"))
        .rename({"station": "entity_id"})
    )
