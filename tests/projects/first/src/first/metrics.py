import numpy as np


def cost(actual, predicted):
    """A bike that is missing costs three times as much as one that is too many."""
    missing, spare = np.maximum(actual - predicted, 0), np.maximum(predicted - actual, 0)
    return float((3 * missing + spare).mean())
