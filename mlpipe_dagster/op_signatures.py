"""Signatures of asset and check bodies, read once, because every model has the same bodies."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar, get_type_hints

_Body = TypeVar("_Body", bound=Callable[..., Any])

_READ: dict[CodeType, inspect.Signature] = {}


def read_once(body: _Body) -> _Body:
    """Give a body the signature that the same body of another model has; a decorator below Dagster's own.

    Dagster takes an explicit `__signature__` as it is. Without one it has Python read and resolve the same
    parameters some fifteen times for each asset, a third of the time that definitions take to load.
    """
    signature = _READ.get(body.__code__)
    if signature is None:
        hints = get_type_hints(body, include_extras=True)
        read = inspect.signature(body)
        signature = read.replace(
            parameters=[
                each.replace(annotation=hints.get(name, each.annotation))
                for name, each in read.parameters.items()
            ],
            return_annotation=hints.get("return", read.return_annotation),
        )
        _READ[body.__code__] = signature
    body.__signature__ = signature
    return body
