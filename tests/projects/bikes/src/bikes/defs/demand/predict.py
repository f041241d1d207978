import pandas as pd


def predict(features, model, previous):
    trips = model["trips"].predict(features[model["inputs"]])
    return pd.DataFrame({"station": features["entity_id"], "expected_trips": trips})
