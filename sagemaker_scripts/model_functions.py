"""The shape of a model's own part, and how the framework finds it by its package.

A model's package, which its project brings, holds three pure functions over DataFrames, each in the module of
its name:

    features(schedule, history) -> PreparedFeatures
    train(examples) -> dict
    predict(features, artifact, previous) -> DataFrame

They do no input and no output, read no clock and no environment, and give the same for the same.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from prediction_contract.errors import InvalidNameError

# The columns that name a row of outcomes.
OUTCOME_KEY = ["partition", "entity_id"]


class PreparedFeatures(NamedTuple):
    """What a model's `features` returns for one partition.

    Attributes:
        features: One row per entity of the partition; `entity_id` names it.
        outcomes: What became of the entities of earlier partitions as far as it is known: one row per
            `partition` (text, as `2013-02-01`) and `entity_id`, with the model's own outcome columns.
    """

    features: pd.DataFrame
    outcomes: pd.DataFrame


Artifact = dict[str, Any]


@dataclass(frozen=True)
class _FunctionsOfPlatform:
    """A model's own part; each module is imported when it is first asked for, so no job loads all three."""

    package: str

    @property
    def features(self) -> Callable[[pd.DataFrame, pd.DataFrame], PreparedFeatures]:
        """Takes the partition's schedule and the rows of the days before it.

        Outcomes that are not known at the partition's beginning are left empty in these rows.
        """
        return self._module("features").features

    @property
    def train(self) -> Callable[[pd.DataFrame], Artifact]:
        """Takes features joined with outcomes; returns what `predict` needs, by name.

        That may be scikit-learn estimators, numbers, texts, and lists and dicts of these.
        """
        return self._module("train").train

    @property
    def predict(self) -> Callable[[pd.DataFrame, Artifact, pd.DataFrame | None], pd.DataFrame]:
        """Takes a partition's features, the artifact and the previous batch; returns the schema's columns.

        The previous batch's predictions come joined with what became of them, in the types of
        `schema_frame`, their partition in `attrs["partition"]`; None if there is no batch.
        """
        return self._module("predict").predict

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")


# The jobs that still take this shape know it by the name of the one that replaces it.
ModelFunctions = _FunctionsOfPlatform


def model_functions(package: str | None) -> ModelFunctions:
    """Return the own part of a model.

    Raises:
        InvalidNameError: No package is named, or the code holds none of this name.
    """
    if package is None or not _is_there(package):
        raise InvalidNameError(
            f"The code has no package {package}",
            remedy="Add the model's features.py, train.py and predict.py, or start the job of another model",
        )
    return ModelFunctions(package)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        # A package above it is missing.
        return False
