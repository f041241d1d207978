import pandas as pd


def predict(features, model, previous):
    known = features["segment"].map(model).astype("float64")
    return pd.DataFrame({"customer_id": features["entity_id"], "churn_probability": known})
