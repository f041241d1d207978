def outcomes(partition, readings):
    rows = readings.group_by(["partition", "station"]).aggregate([("load", "mean")])
    return rows.rename_columns({"station": "entity_id", "load_mean": "load"})
