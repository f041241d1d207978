def outcomes(partition, trips):
    counted = trips.groupby(["partition", "station"]).size().reset_index(name="trips")
    return counted.rename(columns={"station": "entity_id"})
