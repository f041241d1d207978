from decimal import Decimal

import pandas as pd


def predict(features, model, previous):
    inputs = features[model["inputs"]].astype("float64")
    trips = model["trips"].predict(inputs)
    correction = None
    if previous is not None and len(previous):
        correction = float((previous["trips"] - previous["expected_trips"]).astype("float64").mean())
        trips = trips + correction / 2
    return pd.DataFrame(
        {
            "station": features["entity_id"],
            "day": pd.Timestamp("2026-03-09").date(),
            "expected_trips": trips,
            "high_trips": trips * 1.3,
            "busy_probability": model["busy"].predict_proba(inputs)[:, 1],
            "docks": features["docks"],
            "revenue": [Decimal(f"{value:.2f}") for value in features["revenue"]],
            "is_open": ~features["is_closed"],
            "starts_at": pd.Timestamp("2026-03-09T06:00", tz="UTC"),
            "details": [{"mean": model["means"].get(name), "tags": ["a"]} for name in features["entity_id"]],
            "correction": correction,
        }
    )
