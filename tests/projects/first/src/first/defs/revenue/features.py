def features(partition, sales):
    rows = sales.groupby("station")["amount"].mean().reset_index(name="mean_amount")
    return rows.rename(columns={"station": "entity_id"})
