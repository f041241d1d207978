"""Prepared features on S3: one folder per partition and run, whole once its `features.json` is there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import features_prefix, partition_features_prefix
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json
from prediction_contract.text.json_members import member, members_of
from sagemaker_scripts.model_functions import OUTCOME_KEY, PreparedFeatures
from sagemaker_scripts.object_store import ObjectStore

INDEX_NAME = "features.json"


class FeaturesError(ContractError):
    """Prepared features are missing, or not what their index says."""


@dataclass(frozen=True)
class FeatureSet:
    """The features of a partition as one run prepared them.

    Attributes:
        model: The model's name.
        partition: The partition.
        prefix: The folder, ending with `/`.
        features: The Parquet file of features.
        outcomes: The Parquet file of what was known of earlier partitions' entities.
        rows: The rows of features.
        code_version: The version of the code that prepared them.
    """

    model: str
    partition: str
    prefix: str
    features: InputObject
    outcomes: InputObject
    rows: int
    code_version: str

    @property
    def inputs(self) -> tuple[InputObject, InputObject]:
        """Both files."""
        return self.features, self.outcomes

    def read_features(self, store: ObjectStore) -> pa.Table:
        """Return the features.

        Raises:
            InputMissingError: The file is gone.
            ObjectAlteredError: The file is not the one that was indexed.
        """
        return _read(store, self.features)

    def read_outcomes(self, store: ObjectStore) -> pa.Table:
        """Return the outcomes; errors as above."""
        return _read(store, self.outcomes)


def write_feature_set(
    store: ObjectStore,
    prepared: PreparedFeatures,
    *,
    model: str,
    partition: str,
    run_id: str,
    code_version: str,
    raw: Iterable[InputObject],
) -> FeatureSet:
    """Write a partition's features, the index last; the same features give the same bytes again.

    Args:
        store: The bucket.
        prepared: What the model's `features` returned.
        model: The model's name.
        partition: The partition.
        run_id: Names the folder.
        code_version: The version of the code that runs.
        raw: What was read, for the index.

    Raises:
        FeaturesError: The rows do not name each entity once, or have a column `partition`, or an entity has
            two outcomes, or a column holds values of several types.
    """
    keys = prepared.features["entity_id"].tolist()
    if any(type(key) is not str for key in keys) or len(set(keys)) != len(keys):
        raise FeaturesError(
            f"The features of {partition} do not name each entity once in entity_id",
            remedy="Correct the model's features function",
            model=model,
        )
    if "partition" in prepared.features.columns:
        raise FeaturesError(
            f"The features of {partition} have a column partition, which the platform adds itself",
            remedy="Give the column another name in the model's features function",
            model=model,
        )
    if prepared.outcomes.duplicated(OUTCOME_KEY).any():
        raise FeaturesError(
            f"The outcomes that are known of before {partition} name an entity of a partition twice",
            remedy="Correct the model's features function",
            model=model,
        )
    prefix = features_prefix(model, partition, run_id)
    rows = prepared.features.assign(partition=str(partition))
    fault = f"of {partition} cannot be written"
    features = store.put(f"{prefix}features.parquet", _parquet(rows, f"The features {fault}", model))
    outcomes = store.put(
        f"{prefix}outcomes.parquet", _parquet(prepared.outcomes, f"The outcomes {fault}", model)
    )
    index = {
        "model": str(model),
        "partition": str(partition),
        "code_version": code_version,
        "rows": len(rows),
        "features": {"key": features.key, "sha256": features.sha256},
        "outcomes": {"key": outcomes.key, "sha256": outcomes.sha256},
        "raw": [{"key": source.key, "sha256": source.sha256} for source in raw],
    }
    store.put(f"{prefix}{INDEX_NAME}", json.dumps(index, indent=1).encode())
    return FeatureSet(str(model), str(partition), prefix, features, outcomes, len(rows), code_version)


def _parquet(rows: pd.DataFrame, fault: str, model: str) -> bytes:
    """Return rows as Parquet; a fault names column, rows and types, and quotes no value."""
    try:
        content: bytes = rows.to_parquet(index=False)
    except pa.ArrowException:
        # Arrow's own words quote the value, and it is not known which are sensitive.
        raise FeaturesError(
            f"{fault}: {_mixed_column(rows)}",
            remedy="Give each column values of one type in the model's features function",
            model=model,
        ) from None
    return content


def _mixed_column(rows: pd.DataFrame) -> str:
    """Return the first column that Parquet cannot hold, with the first row of each type in it."""
    for name in rows.columns:
        try:
            pa.Array.from_pandas(rows[name])
        except pa.ArrowException:
            first: dict[str, int] = {}
            for number, (value, is_there) in enumerate(zip(rows[name], rows[name].notna(), strict=True), 1):
                if is_there:
                    first.setdefault(type(value).__name__, number)
            kinds = ", ".join(f"{kind} from row {number} on" for kind, number in first.items())
            return f"column {name} holds {kinds}"
    return "its columns are of no types that Parquet has"


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
        found = _parsed(folder, members_of(parse_json(content), "it"))
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


def _read(store: ObjectStore, source: InputObject) -> pa.Table:
    return pq.read_table(io.BytesIO(store.get_verified(source)))


def _newest(store: ObjectStore, model: str, partition: str) -> str | None:
    listed = store.listing(partition_features_prefix(model, partition))
    indexes = [item for item in listed if item.key.endswith(f"/{INDEX_NAME}")]
    newest = max(indexes, key=lambda item: (item.modified, item.key), default=None)
    return newest.key.removesuffix(INDEX_NAME) if newest else None


def _parsed(folder: str, index: Mapping[str, Any]) -> FeatureSet:
    named = {name: member(index, name, dict) for name in ("features", "outcomes")}
    files = {
        name: InputObject(member(source, "key", str), member(source, "sha256", str))
        for name, source in named.items()
    }
    if any(not source.key.startswith(folder) for source in files.values()):
        raise ValueError("it names files of another folder")
    return FeatureSet(
        model=member(index, "model", str),
        partition=member(index, "partition", str),
        prefix=folder,
        features=files["features"],
        outcomes=files["outcomes"],
        rows=member(index, "rows", int),
        code_version=member(index, "code_version", str),
    )
