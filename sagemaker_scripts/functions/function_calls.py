"""Finds a model's functions in the declared package, calls them with tables, and checks their results.

    features(partition, **sources) -> one row per entity, named by `entity_id`
    outcomes(partition, **sources) -> outcomes of earlier partitions: `partition`, `entity_id` and the model's
        outcome columns
    train(examples) -> the model
    predict(features, model, previous) -> the declared columns

`features` and `outcomes` receive the sources that their parameters name. The functions import nothing from
the platform, do no I/O, and return equal results for equal arguments.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.functions.entity_rows import checked_features, checked_outcomes
from sagemaker_scripts.tables.given_tables import given_table
from sagemaker_scripts.tables.returned_tables import returned_frame, returned_table

_LONGEST_WORDS = 500


class FunctionError(ContractError):
    """A model's function is missing, takes other arguments, or failed."""


@dataclass(frozen=True)
class ModelFunctions:
    """A model's functions; each module is imported at its first call, so that jobs load only what they use.

    Attributes:
        inputs: The model's inputs, with the functions' package and the kind of tables.
    """

    inputs: ModelInputs

    def features(self, partition: str, sources: Mapping[str, pa.Table]) -> pa.Table:
        """Return the features of a partition: one row per entity.

        Args:
            partition: The partition.
            sources: The rows of each source known when the partition began, by name.

        Raises:
            FunctionError: The function is missing, takes other arguments, or failed.
            ReturnedTableError: The function did not return a valid table.
            EntityRowsError: A row has no entity, or an entity has several rows.
        """
        table = self._table_of_sources("features", partition, sources)
        return checked_features(table, partition, self._owner("features"), model=self.inputs.model)

    def outcomes(self, partition: str, sources: Mapping[str, pa.Table]) -> pa.Table:
        """Return earlier partitions' outcomes known when a partition begins; errors as in `features`."""
        table = self._table_of_sources("outcomes", partition, sources)
        return checked_outcomes(table, partition, self._owner("outcomes"), model=self.inputs.model)

    def sources_of_outcomes(self) -> list[str]:
        """Return the names of the sources that are parameters of `outcomes`.

        Raises:
            FunctionError: The function is missing.
        """
        return self._sources_of("outcomes", [source.name for source in self.inputs.sources])

    def train(self, examples: pa.Table) -> Any:
        """Return the model trained on features joined with outcomes.

        Raises:
            FunctionError: The function is missing, takes other arguments, or failed.
        """
        given = given_table(examples, self.inputs.tables)
        return self._call("train", (given,), {}, f"on {examples.num_rows} examples")

    def predict(
        self, features: pa.Table, model: Any, previous: pd.DataFrame | pa.Table | None, *, partition: str
    ) -> pd.DataFrame:
        """Return a partition's predictions in the form of `returned_frame`.

        Args:
            features: The partition's features. A column `partition` is left out.
            model: The value that `train` returned.
            previous: The previous batch joined with its outcomes: a DataFrame for a model with pandas,
                otherwise an Arrow table; None if there is none.
            partition: The partition, for errors.

        Raises:
            FunctionError: The function is missing, takes other arguments, or failed.
            ReturnedTableError: The function did not return a table.
        """
        own = [name for name in features.column_names if name != "partition"]
        given = given_table(features.select(own), self.inputs.tables)
        with self._distinguish_nan_from_null():
            result = self._call(
                "predict", (given, model, self._given_previous(previous)), {}, f"for {partition}"
            )
            return returned_frame(result, self._owner("predict"))

    def _table_of_sources(self, name: str, partition: str, sources: Mapping[str, pa.Table]) -> pa.Table:
        taken = self._sources_of(name, sources)
        given = {source: given_table(sources[source], self.inputs.tables) for source in taken}
        result = self._call(name, (str(partition),), given, f"for {partition}")
        return returned_table(result, self._owner(name))

    def _sources_of(self, name: str, sources: Iterable[str]) -> list[str]:
        """Return the sources that are parameters of a function."""
        named = list(inspect.signature(self._function(name)).parameters.values())
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named):
            return list(sources)
        return [source for source in sources if source in {each.name for each in named[1:]}]

    def _given_previous(self, previous: pd.DataFrame | pa.Table | None) -> Any:
        return given_table(previous, self.inputs.tables) if isinstance(previous, pa.Table) else previous

    def _distinguish_nan_from_null(self) -> Any:
        # Keep a NaN that the model computes from nullable columns. By default, pandas turns it into NA, and
        # an invalid number would look like a missing value.
        return pd.option_context("future.distinguish_nan_and_na", True)  # pairs of name and value

    def _owner(self, name: str) -> str:
        return f"{name} of {self.inputs.model}"

    def _call(self, name: str, given: tuple[Any, ...], sources: Mapping[str, Any], when: str) -> Any:
        function = self._function(name)
        try:
            inspect.signature(function).bind(*given, **sources)
        except TypeError as error:
            known = ", ".join(each.name for each in self.inputs.sources) or "none"
            sourced = f"{name}(partition, ...), where the other parameters are sources: {known}"
            wanted = {"train": "train(examples)", "predict": "predict(features, model, previous)"}
            raise FunctionError(
                f"{self._label(name)} cannot be called: {error}",
                remedy=f"Write it as {wanted.get(name, sourced)}",
                model=self.inputs.model,
            ) from error
        with self._translate_errors(name, when):
            return function(*given, **sources)

    @contextmanager
    def _translate_errors(self, name: str, when: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_WORDS]
            raise FunctionError(
                f"{self._label(name)} failed {when}: {words}",
                remedy="Correct the function; its traceback is in the job's log",
                model=self.inputs.model,
            ) from error

    def _function(self, name: str) -> Callable[..., Any]:
        module = f"{self.inputs.functions}.{name}"
        try:
            exists = self._exists(module)
            function = getattr(importlib.import_module(module), name, None) if exists else None
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_WORDS]
            raise FunctionError(
                f"{module} cannot be imported: {words}",
                remedy="Correct the module, or add the package that it imports to the model's requirements",
                model=self.inputs.model,
            ) from error
        if not exists:
            raise FunctionError(
                f"The code has no module {module}",
                remedy=f"Write {name}.py beside the model's defs.yaml, then package the code again",
                model=self.inputs.model,
            )
        if not callable(function):
            raise FunctionError(
                f"{module} has no function {name}",
                remedy=f"Write it in {name}.py beside the model's defs.yaml",
                model=self.inputs.model,
            )
        return function

    def _exists(self, module: str) -> bool:
        """Tell whether a module exists; its packages are imported, and their import errors are raised."""
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError as error:
            if f"{module}.".startswith(f"{error.name}."):
                return False
            raise

    def _label(self, name: str) -> str:
        return f"{name} in {self.inputs.functions}.{name}"
