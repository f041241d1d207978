"""Checks decision trees of scikit-learn from a file: nodes may refer only to later nodes and known columns.

scikit-learn does not check a node's references. With a forged file, a prediction could read memory outside
the tree or never end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sagemaker_scripts.codecs.codec import is_instance_of

_LEAF = -1


def check_trees(value: Any) -> None:
    """Refuse an object that holds a tree with invalid references between nodes.

    Raises:
        ValueError: There is such a tree.
    """
    for tree, features in _trees(value):
        if is_instance_of(tree, "sklearn", "Tree"):
            nodes = tree.__getstate__()["nodes"] if tree.node_count == tree.capacity else None
            is_sound = (
                nodes is not None
                and tree.n_features == features
                and _has_valid_references(
                    nodes["left_child"] != _LEAF,
                    (nodes["left_child"], nodes["right_child"]),
                    nodes["feature"],
                    features,
                )
            )
        else:
            nodes = tree.nodes
            splits = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0)
            is_sound = _has_valid_references(
                nodes["is_leaf"] == 0, (nodes["left"], nodes["right"]), nodes["feature_idx"], features
            ) and bool((nodes["bitset_idx"][splits] < len(tree.raw_left_cat_bitsets)).all())
        if not is_sound:
            raise ValueError("it holds a decision tree with invalid references between its nodes")


def _has_valid_references(
    splits: np.ndarray, children: tuple[np.ndarray, np.ndarray], column: np.ndarray, features: int
) -> bool:
    """Tell whether each split refers to two later nodes and to an existing column."""
    number = np.arange(len(splits))
    return bool(
        len(splits)
        and all(((each > number) & (each < len(splits)))[splits].all() for each in children)
        and ((column >= 0) & (column < features))[splits].all()
    )


def _trees(value: Any) -> Iterator[tuple[Any, int]]:
    """Yield each tree with the number of columns that its estimator requires of rows."""
    seen: set[int] = set()
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        found, features = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if is_instance_of(found, "sklearn", "Tree", "TreePredictor"):
            yield found, features
        elif isinstance(found, dict):
            pending += [(each, features) for each in found.values()]
        elif isinstance(found, list | tuple | set):
            pending += [(each, features) for each in found]
        elif isinstance(found, np.ndarray):
            pending += [
                (each, features) for each in (found.ravel().tolist() if found.dtype == object else ())
            ]
        else:
            members = getattr(found, "__dict__", {})
            own = members.get("n_features_in_", features)
            pending += [(each, own if isinstance(own, int) else 0) for each in members.values()]
