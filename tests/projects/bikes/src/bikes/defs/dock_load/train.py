import numpy as np


def train(examples):
    inputs = np.column_stack([examples["mean"], examples["last"]])
    weights, *_ = np.linalg.lstsq(inputs, examples["load"].to_numpy(), rcond=None)
    return {"weights": weights.tolist()}
