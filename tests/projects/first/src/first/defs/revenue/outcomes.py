def outcomes(partition, sales):
    months = sales.assign(partition=sales["closed_at"].dt.strftime("%Y-%m"))
    rows = months.groupby(["partition", "station"])["amount"].sum().reset_index()
    return rows.rename(columns={"station": "entity_id"})
