BUSY_TRIPS = 25


def outcomes(partition, trips, **others):
    counted = trips.groupby(["partition", "station"]).size().reset_index(name="trips")
    counted["busy"] = counted["trips"] > BUSY_TRIPS
    return counted.rename(columns={"station": "entity_id"})
