"""Features and outcomes of a few partitions, prepared in memory like in the features job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.features.feature_store import PreparedPartition
from sagemaker_scripts.features.preparation import prepared_partition
from sagemaker_scripts.learning.outcomes import (
    PreparedTables,
    joined_tables,
    newest_outcomes,
    with_outcomes,
)
from sagemaker_scripts.sources.source_objects import SourceError, SourceMissingError
from sagemaker_scripts.sources.source_tables import SourceTables


class TrialError(ContractError):
    """A model cannot be tried with the existing data."""


def no_secret(name: str) -> str:
    """Refuse to read a secret, because sample data needs none."""
    raise SourceError(f"Sample data has no secret {name}", remedy="Pass --bucket to query Snowflake")


@dataclass
class PreparedTrial:
    """The prepared data of the partitions of a trial.

    Attributes:
        partitions: The prepared data of each partition with data, in order.
        missing: The partitions without data.
    """

    partitions: dict[str, PreparedPartition] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def features(self, partition: str) -> pa.Table:
        """Return the features of a partition."""
        return self.partitions[partition].features

    def at(self, partition: str) -> PreparedTables:
        """Return the features of a partition, with the outcomes known when it began."""
        known = self._outcomes(partition)
        return PreparedTables(self.features(partition), newest_outcomes(known) if known else None)

    def known_outcomes(self) -> pa.Table | None:
        """Return the newest outcome of each entity; None if the model has no outcomes."""
        known = self._outcomes()
        return newest_outcomes(known) if known else None

    def examples(self, partitions: Iterable[str], most: int) -> pa.Table:
        """Return features joined with their outcomes, at most `most` rows."""
        outcomes = self.known_outcomes()
        joined = [
            self.features(each) if outcomes is None else with_outcomes(self.features(each), outcomes, each)
            for each in partitions
        ]
        return joined_tables(joined, "The features").slice(0, most)

    def _outcomes(self, until: str | None = None) -> list[pa.Table]:
        return [
            prepared.outcomes
            for partition, prepared in self.partitions.items()
            if prepared.outcomes is not None and (until is None or partition <= until)
        ]


def prepare(
    inputs: ModelInputs,
    store: ObjectStore,
    partitions: Iterable[str],
    *,
    needed: str,
    secret_text: Callable[[str], str],
) -> PreparedTrial:
    """Prepare and return features and outcomes of partitions, in their order.

    Args:
        inputs: The model's inputs.
        store: The bucket or folder with the data.
        partitions: The partitions to prepare.
        needed: The partition that must have data.
        secret_text: Returns a secret's document by its name.

    Raises:
        ContractError: The needed partition has no data, a source is invalid, or a function failed.
    """
    found = PreparedTrial()
    every = sorted(set(partitions))
    with SourceTables(
        inputs, store, last=every[-1], secret_text=secret_text, storage_options=storage_options()
    ) as sources:
        for partition in every:
            try:
                found.partitions[partition] = prepared_partition(inputs, sources, partition)
            except SourceMissingError:
                if partition == needed:
                    raise
                found.missing.append(partition)
    return found
