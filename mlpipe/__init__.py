"""The platform's API for projects; each name is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpipe_dagster.components.prediction_pipeline import PredictionPipeline
    from mlpipe_dagster.definitions import definitions

__all__ = ["PredictionPipeline", "definitions"]
# `dg` asks this module for its components, of any project whose environment has the platform.
_MODULES = {
    "PredictionPipeline": "mlpipe_dagster.components.prediction_pipeline",
    "definitions": "mlpipe_dagster.definitions",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
