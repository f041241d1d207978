import pyarrow as pa
import pyarrow.compute as pc


def predict(features, model, previous):
    return pa.table(
        {"station": features["entity_id"], "expected_load": pc.add(features["mean_load"], model["bias"])}
    )
