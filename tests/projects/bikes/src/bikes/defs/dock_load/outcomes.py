import polars as pl


def outcomes(partition, readings):
    load = (pl.col("bikes") / pl.col("docks")).mean()
    return readings.group_by("partition", pl.col("station").alias("entity_id")).agg(load.alias("load"))
