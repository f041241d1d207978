"""Checks that predictions have the same entities as the features."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.errors import PredictionsError

_NAMED_ROWS = 5


def check_keys(
    features: pa.Array | pa.ChunkedArray,
    predictions: pa.Array | pa.ChunkedArray,
    numbers: np.ndarray | None = None,
) -> None:
    """Refuse predictions with missing or additional entities; arguments as in `key_fault`.

    Raises:
        PredictionsError: An entity has no prediction, or a predicted entity has no features.
    """
    fault = key_fault(features, predictions, numbers)
    if fault is not None:
        raise PredictionsError(
            fault,
            remedy="Return one row from predict for each row of features, with its entity_id as the key",
        )


def key_fault(
    features: pa.Array | pa.ChunkedArray,
    predictions: pa.Array | pa.ChunkedArray,
    numbers: np.ndarray | None = None,
) -> str | None:
    """Return what is wrong with the keys of predictions; None if they are the features' entities.

    Keys are compared unchanged. The text names rows by their number and quotes no key, because keys may be
    sensitive.

    Args:
        features: The keys of all features that `predict` received.
        predictions: The keys that it returned; null for a row without a key. Keys may repeat.
        numbers: The number of each row among the partition's features, from 0; None for all of them.
    """
    wanted, found = (_texts(keys) for keys in (features, predictions))
    if wanted.equals(found):
        return None
    places = np.flatnonzero(~_among(wanted, found))
    missing = places if numbers is None else numbers[places]
    surplus = np.flatnonzero(~_among(found, wanted) & _mask(found.is_valid()))
    faults = []
    if len(missing):
        faults.append(f"predict returned no prediction for {_rows(missing)} of the features")
    if len(surplus):
        verb = "belongs" if len(surplus) == 1 else "belong"
        faults.append(f"{_rows(surplus)} of the predictions {verb} to no entity of the features")
    return "; ".join(faults) or None


def _texts(keys: pa.Array | pa.ChunkedArray) -> pa.Array:
    texts = keys.cast(pa.large_string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def _among(keys: pa.Array, others: pa.Array) -> np.ndarray:
    return _mask(pc.is_in(keys, value_set=others))


def _mask(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)


def _rows(numbers: np.ndarray) -> str:
    named = ", ".join(str(number + 1) for number in numbers[:_NAMED_ROWS].tolist())
    more = f" and {len(numbers) - _NAMED_ROWS:,} more" if len(numbers) > _NAMED_ROWS else ""
    return f"{'row' if len(numbers) == 1 else 'rows'} {named}{more}"
