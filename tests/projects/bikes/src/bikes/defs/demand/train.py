import lightgbm


def train(examples):
    inputs = ["mean", "last", "weekday"]
    data = lightgbm.Dataset(examples[inputs], examples["trips"])
    settings = {"deterministic": True, "force_row_wise": True, "min_data_in_leaf": 5, "verbose": -1}
    return {"inputs": inputs, "trips": lightgbm.train(settings, data, num_boost_round=50)}
