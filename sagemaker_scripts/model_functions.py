"""The shape of a model's own part, and how the framework finds it by the model's name.

A model is the package `sagemaker_scripts.models.<model>` with three pure functions over DataFrames, each in
the module of its name:

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
from prediction_contract.naming.batch import ModelName

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


def model_functions(model: str) -> ModelFunctions:
    """Return the own part of a model.

    Raises:
        InvalidNameError: The name has another form, or the code holds no such model.
    """
    package = f"{__package__}.models.{ModelName(model)}"
    if importlib.util.find_spec(package) is None:
        raise InvalidNameError(
            f"The code has no package {package}",
            remedy="Add the model's features.py, train.py and predict.py, or start the job of another model",
            model=model,
        )
    return ModelFunctions(package)
