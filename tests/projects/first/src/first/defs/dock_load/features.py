def features(partition, readings):
    rows = readings.group_by("station").aggregate([("load", "mean")])
    return rows.rename_columns({"station": "entity_id", "load_mean": "mean_load"})
