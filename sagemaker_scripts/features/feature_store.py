"""Prepared features on S3: one folder per partition and run; `features.json` marks it as complete."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import ObjectStore, input_object
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import features_prefix, partition_features_prefix
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json
from prediction_contract.text.json_members import member, members_of
from sagemaker_scripts.features.feature_files import FeatureFile, FeaturesError, object_of_entry
from sagemaker_scripts.features.feature_writer import FeatureFileWriter
from sagemaker_scripts.features.files_elsewhere import RowsElsewhere
from sagemaker_scripts.features.source_rows import with_partition

INDEX_NAME = "features.json"


class PreparedPartition(NamedTuple):
    """The prepared data of one partition.

    Attributes:
        features: The features, one row per entity, with its key as `entity_id`.
        outcomes: The known outcomes of earlier partitions: one row per `partition` (a text like `2013-02-01`)
            and `entity_id`; None for a model without outcomes.
        sources: The records of what was read from sources, for the index.
    """

    features: pa.Table
    outcomes: pa.Table | None
    sources: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class FeatureSet:
    """The features of a partition that one run prepared.

    Attributes:
        model: The model's name.
        partition: The partition.
        prefix: The folder, ending with `/`.
        index: The index of the files.
        features: The files of features, in the order of their rows.
        outcomes: The files of the known outcomes of earlier partitions; None without outcomes.
        code_version: The version of the code that prepared them.
    """

    model: str
    partition: str
    prefix: str
    index: InputObject
    features: tuple[FeatureFile, ...]
    outcomes: tuple[FeatureFile, ...] | None
    code_version: str

    @property
    def rows(self) -> int:
        """The number of rows of features."""
        return sum(file.rows for file in self.features)

    @property
    def inputs(self) -> tuple[InputObject, ...]:
        """The index and all files."""
        return (self.index, *(file.object for file in (*self.features, *(self.outcomes or ()))))

    @property
    def digest(self) -> str:
        """The digest of the names and contents of all files; any change to a file changes it."""
        named = [(each.key, each.sha256) for each in self.inputs]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()

    def read_features(self, store: ObjectStore) -> pa.Table:
        """Return all features, with the partition as a column.

        Raises:
            InputMissingError: A file is missing.
            ObjectAlteredError: A file has changed since it was indexed.
        """
        return _read(store, self.features)

    def read_outcomes(self, store: ObjectStore) -> pa.Table:
        """Return all outcomes; errors as in `read_features` and `outcome_files`."""
        return _read(store, self.outcome_files)

    @property
    def outcome_files(self) -> tuple[FeatureFile, ...]:
        """The files of outcomes, for a model that has outcomes.

        Raises:
            FeaturesError: The features were prepared when the model had no outcomes.
        """
        if self.outcomes is None:
            raise FeaturesError(
                f"The features of {self.partition} were prepared without outcomes, but the model has an "
                "outcomes function",
                remedy="Run the features job for this partition again",
                model=self.model,
            )
        return self.outcomes


@dataclass(frozen=True)
class FeatureFolder:
    """The folder to which one run writes a partition's features; equal features give equal bytes.

    Attributes:
        store: The data bucket.
        model: The model's name.
        partition: The partition.
        run_id: The run's id, which names the folder.
        code_version: The version of the running code.
    """

    store: ObjectStore
    model: str
    partition: str
    run_id: str
    code_version: str

    @property
    def prefix(self) -> str:
        """The folder, ending with `/`."""
        return features_prefix(self.model, self.partition, self.run_id)

    def writer(self, name: str, schema: pa.Schema) -> FeatureFileWriter:
        """Return a writer for rows that come in batches; `name` is `features` or `outcomes`."""
        what = f"The {name} of {self.partition}"
        return FeatureFileWriter(self.store, f"{self.prefix}{name}", schema, what, self.model)

    def write(self, name: str, rows: pa.Table) -> tuple[FeatureFile, ...]:
        """Write rows, and return their files.

        Raises:
            FeaturesError: Parquet cannot store a column's type.
        """
        with self.writer(name, rows.schema) as writer:
            writer.write(rows)
            return writer.close()

    def write_all(self, prepared: PreparedPartition) -> FeatureSet:
        """Write features and outcomes from memory, then the index; errors as in `write`."""
        features = self.write("features", with_partition(prepared.features, self.partition))
        outcomes = None if prepared.outcomes is None else self.write("outcomes", prepared.outcomes)
        return self.finish(features, outcomes, prepared.sources)

    def finish(
        self,
        features: tuple[FeatureFile, ...],
        outcomes: tuple[FeatureFile, ...] | None,
        sources: Sequence[Mapping[str, Any]],
    ) -> FeatureSet:
        """Write the index, which makes the features visible.

        Args:
            features: The files of features, all in this folder or all prepared elsewhere.
            outcomes: The files of outcomes; None for a model without outcomes.
            sources: The records of what was read from sources.
        """
        elsewhere = features[0].elsewhere
        document = {
            "model": str(self.model),
            "partition": str(self.partition),
            "code_version": self.code_version,
            "rows": sum(file.rows for file in features),
            "features": [file.to_document() for file in features],
            "outcomes": None if outcomes is None else [file.to_document() for file in outcomes],
            "elsewhere": elsewhere and elsewhere.to_document(),
            "sources": list(sources),
        }
        kept = {name: value for name, value in document.items() if value is not None}
        index = self.store.put(f"{self.prefix}{INDEX_NAME}", json.dumps(kept, indent=1).encode())
        return FeatureSet(
            str(self.model), str(self.partition), self.prefix, index, features, outcomes, self.code_version
        )


def feature_set(store: ObjectStore, model: str, partition: str, prefix: str | None = None) -> FeatureSet:
    """Return the features below a prefix, or the partition's newest features.

    Raises:
        FeaturesError: There are no features, or they belong to another model or partition.
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
        found = _parsed(store, folder, content)
    except (InvalidJsonError, ValueError) as error:
        why = error.what if isinstance(error, InvalidJsonError) else error
        raise FeaturesError(
            f"{folder}{INDEX_NAME} is not an index of features: {why}",
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


def newest_features(store: ObjectStore, model: str, partition: str) -> FeatureSet | None:
    """Return a partition's newest features, or None if it is not prepared; errors as in `feature_set`."""
    folder = _newest(store, model, partition)
    return None if folder is None else feature_set(store, model, partition, folder)


def partitions_between(first: str, last: str) -> list[Partition]:
    """Return all partitions from the first to the last, both included.

    Raises:
        FeaturesError: The partitions are of different kinds, or the last is before the first.
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


def _parsed(store: ObjectStore, folder: str, content: bytes) -> FeatureSet:
    index = members_of(parse_json(content), "it")
    model, partition = member(index, "model", str), member(index, "partition", str)
    elsewhere = None
    if "elsewhere" in index:
        elsewhere = RowsElsewhere.parse(member(index, "elsewhere", dict), partition, model)
    return FeatureSet(
        model,
        partition,
        prefix=folder,
        index=input_object(f"{folder}{INDEX_NAME}", content),
        features=_files(store, folder, index, "features", elsewhere),
        outcomes=_files(store, folder, index, "outcomes") if "outcomes" in index else None,
        code_version=member(index, "code_version", str),
    )


def _files(
    store: ObjectStore,
    folder: str,
    index: Mapping[str, Any],
    name: str,
    elsewhere: RowsElsewhere | None = None,
) -> tuple[FeatureFile, ...]:
    if isinstance(index.get(name), dict):
        # An earlier version of the platform wrote a single file without its row groups in the index.
        only = object_of_entry(index[name])
        _require_folder(only, folder)
        metadata = pyarrow.parquet.read_metadata(io.BytesIO(store.get_verified(only)))
        groups = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        return (FeatureFile(only, tuple(groups)),)
    files = tuple(FeatureFile.parse(each, elsewhere) for each in member(index, name, list))
    if not files:
        raise ValueError(f"{name} names no file")
    for file in files:
        if file.elsewhere is None:
            _require_folder(file.object, folder)
    return files


def _require_folder(named: InputObject, folder: str) -> None:
    if named.bucket is not None or not named.key.startswith(folder):
        raise ValueError("it names files of another folder")
