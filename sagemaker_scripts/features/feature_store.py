"""Prepared features on S3: one folder per partition and run, whole once its `features.json` is there."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import features_prefix, partition_features_prefix
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json
from prediction_contract.text.json_members import member, members_of
from sagemaker_scripts.features.feature_files import (
    FeatureFile,
    FeatureFileWriter,
    FeaturesError,
    object_of_entry,
)

INDEX_NAME = "features.json"


class PreparedPartition(NamedTuple):
    """What is prepared of one partition.

    Attributes:
        features: One row per entity of the partition; `entity_id` names it.
        outcomes: What became of the entities of earlier partitions as far as it is known: one row per
            `partition` (text, as `2013-02-01`) and `entity_id`; None for a model without outcomes.
        sources: What was read of the sources, each as it stands in the index.
    """

    features: pa.Table
    outcomes: pa.Table | None
    sources: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class FeatureSet:
    """The features of a partition as one run prepared them.

    Attributes:
        model: The model's name.
        partition: The partition.
        prefix: The folder, ending with `/`.
        features: The files of features, in the order of their rows.
        outcomes: The files of what was known of earlier partitions' entities; None for none.
        code_version: The version of the code that prepared them.
    """

    model: str
    partition: str
    prefix: str
    features: tuple[FeatureFile, ...]
    outcomes: tuple[FeatureFile, ...] | None
    code_version: str

    @property
    def rows(self) -> int:
        """The rows of features."""
        return sum(file.rows for file in self.features)

    @property
    def inputs(self) -> tuple[InputObject, ...]:
        """Its files."""
        return tuple(file.object for file in (*self.features, *(self.outcomes or ())))

    def read_features(self, store: ObjectStore) -> pa.Table:
        """Return all features, with the partition as a column.

        Raises:
            InputMissingError: A file is gone.
            ObjectAlteredError: A file is not the one that was indexed.
        """
        return _read(store, self.features)

    def read_outcomes(self, store: ObjectStore) -> pa.Table:
        """Return all outcomes, for a model that has some; errors as above and below."""
        return _read(store, self.outcome_files)

    @property
    def outcome_files(self) -> tuple[FeatureFile, ...]:
        """The files of outcomes of a model that has some.

        Raises:
            FeaturesError: They were prepared when the model had none.
        """
        if self.outcomes is None:
            raise FeaturesError(
                f"The features of {self.partition} were prepared without outcomes, and the model has a "
                "function outcomes",
                remedy="Run the features job for this partition again",
                model=self.model,
            )
        return self.outcomes


def write_feature_set(
    store: ObjectStore,
    prepared: PreparedPartition,
    *,
    model: str,
    partition: str,
    run_id: str,
    code_version: str,
) -> FeatureSet:
    """Write a partition's features, the index last; the same features give the same bytes again.

    Args:
        store: The bucket.
        prepared: The partition's features and outcomes, and what they were made of.
        model: The model's name.
        partition: The partition.
        run_id: Names the folder.
        code_version: The version of the code that runs.

    Raises:
        FeaturesError: A column is of a type that Parquet does not have.
    """
    prefix = features_prefix(model, partition, run_id)
    written = {"features": _with_partition(prepared.features, partition)}
    if prepared.outcomes is not None:
        written["outcomes"] = prepared.outcomes
    files: dict[str, tuple[FeatureFile, ...]] = {}
    for name, table in written.items():
        what = f"The {name} of {partition}"
        with FeatureFileWriter(store, f"{prefix}{name}", table.schema, what, model) as writer:
            writer.write(table)
            files[name] = writer.close()
    found = FeatureSet(
        str(model), str(partition), prefix, files["features"], files.get("outcomes"), code_version
    )
    index = {
        "model": found.model,
        "partition": found.partition,
        "code_version": code_version,
        "rows": found.rows,
        **{name: [file.to_document() for file in several] for name, several in files.items()},
        "sources": list(prepared.sources),
    }
    store.put(f"{prefix}{INDEX_NAME}", json.dumps(index, indent=1).encode())
    return found


def _with_partition(features: pa.Table, partition: str) -> pa.Table:
    values = pa.repeat(pa.scalar(str(partition), pa.large_string()), features.num_rows)
    return features.append_column("partition", values)


def feature_set(store: ObjectStore, model: str, partition: str, prefix: str | None = None) -> FeatureSet:
    """Return the features below a prefix, or the newest of the partition.

    Raises:
        FeaturesError: There are none, or those of the prefix are another model's or partition's.
    """
    folder = prefix or _newest(store, model, partition)
    content = store.find(f"{folder}{INDEX_NAME}") if folder else None
    if folder is None or content is None:
        raise FeaturesError(
            f"There are no features of {partition} below "
            f"s3://{store.bucket}/{prefix or partition_features_prefix(model, partition)}",
            remedy="Run the features job for this partition",
            model=model,
        )
    try:
        found = _parsed(store, folder, members_of(parse_json(content), "it"))
    except (InvalidJsonError, ValueError) as error:
        why = error.what if isinstance(error, InvalidJsonError) else error
        raise FeaturesError(
            f"{folder}{INDEX_NAME} is no index of features: {why}",
            remedy="Run the features job for this partition again",
            model=model,
        ) from error
    if (found.model, found.partition) != (model, partition):
        raise FeaturesError(
            f"{folder} holds features of {found.model} for {found.partition}, not for {partition}",
            remedy="Pass the prefix of this model's and partition's features",
            model=model,
        )
    return found


def has_features(store: ObjectStore, model: str, partition: str) -> bool:
    """Tell whether a partition has features at all."""
    return _newest(store, model, partition) is not None


def partitions_between(first: str, last: str) -> list[Partition]:
    """Return all partitions of a kind from the first to the last, both included.

    Raises:
        FeaturesError: They are of two kinds, or the last comes before the first.
    """
    found = [Partition(last)]
    if len(first) != len(last) or last < first:
        raise FeaturesError(
            f"There are no partitions from {first} to {last}",
            remedy="Name two partitions of one kind, the earlier one first",
        )
    while found[-1] > first:
        found.append(found[-1].earlier(1))
    return found[::-1]


def _read(store: ObjectStore, files: Iterable[FeatureFile]) -> pa.Table:
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        tables = []
        for file in files:
            rows = file.fetched(store, Path(folder))
            tables.append(pa.Table.from_batches(rows.batches(), rows.schema))
            rows.path.unlink()
    return pa.concat_tables(tables)


def _newest(store: ObjectStore, model: str, partition: str) -> str | None:
    listed = store.listing(partition_features_prefix(model, partition))
    indexes = [item for item in listed if item.key.endswith(f"/{INDEX_NAME}")]
    newest = max(indexes, key=lambda item: (item.modified, item.key), default=None)
    return newest.key.removesuffix(INDEX_NAME) if newest else None


def _parsed(store: ObjectStore, folder: str, index: Mapping[str, Any]) -> FeatureSet:
    features = _files(store, folder, index, "features")
    return FeatureSet(
        model=member(index, "model", str),
        partition=member(index, "partition", str),
        prefix=folder,
        features=features,
        outcomes=_files(store, folder, index, "outcomes") if "outcomes" in index else None,
        code_version=member(index, "code_version", str),
    )


def _files(store: ObjectStore, folder: str, index: Mapping[str, Any], name: str) -> tuple[FeatureFile, ...]:
    if isinstance(index.get(name), dict):
        # An earlier version of the platform wrote one file, and did not say how it is divided.
        only = _in_folder(object_of_entry(index[name]), folder)
        metadata = pyarrow.parquet.read_metadata(io.BytesIO(store.get_verified(only)))
        groups = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        return (FeatureFile(only, tuple(groups)),)
    files = tuple(FeatureFile.parse(each) for each in member(index, name, list))
    for file in files:
        _in_folder(file.object, folder)
    return files


def _in_folder(named: InputObject, folder: str) -> InputObject:
    if named.bucket is not None or not named.key.startswith(folder):
        raise ValueError("it names files of another folder")
    return named
