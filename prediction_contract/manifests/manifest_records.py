"""The records in a manifest. Unknown members are kept in `extra`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prediction_contract.naming.s3_layout import done_key, json_batch_prefix
from prediction_contract.text.canonical_json import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prediction_contract.naming.batch import BatchId, ModelName, Partition
    from prediction_contract.rows.schema import PredictionSchema

MANIFEST_VERSION = "1.0"


def _extra() -> Any:
    """Return the field for members that are unknown to this version of the contract."""
    return field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class InputObject:
    """An S3 object from which the batch was made.

    Attributes:
        key: The object's key.
        sha256: The SHA-256 of its bytes, in hex.
        bucket: The object's bucket; None for the batch's bucket.
    """

    key: str
    sha256: str
    bucket: str | None = None
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True)
class Inputs:
    """The objects from which the batch was made. The model artifact is None if the model has none."""

    features: tuple[InputObject, ...] = ()
    model_artifact: InputObject | None = None
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True)
class ModelPackage:
    """The registered model version that scored the batch.

    Attributes:
        arn: The ARN of the SageMaker model package.
        version: Its number in the model's group, counting from 1.
        digest: The digest of the trained objects, equal to the manifest's `model_version`.
        approved_by: The rule or the person that approved it.
    """

    arn: str
    version: int
    digest: str
    approved_by: str | None = None
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True)
class JsonPart:
    """A JSON part: its key in the bucket, its rows, its compressed bytes, and their SHA-256 in hex."""

    key: str
    rows: int
    bytes: int
    sha256: str
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True)
class DeltaCommit:
    """The batch's commit to the model's Delta table.

    Attributes:
        table: The table's prefix in the bucket, ending with `/`.
        version: The version of the table that added this batch.
        files: The paths of the added files, relative to the table.
        rows: The number of rows in those files.
    """

    table: str
    version: int
    files: tuple[str, ...]
    rows: int
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True)
class Producer:
    """The job that wrote the batch: its name and, if it has one, its ARN."""

    job_name: str | None = None
    job_arn: str | None = None
    extra: Mapping[str, Any] = _extra()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A batch's manifest. `manifest.validate` checks whether it can be trusted.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        attempt: The attempt that produced it, counting from 1.
        partition: The hour, day, week or month that it scores.
        bucket: The bucket of all keys.
        created_at: When the manifest was written, for example `2013-02-01T06:00:00Z`.
        model_version: The trained model's version.
        code_version: The producing code's version.
        previous_batch_id: The earlier batch whose predictions were read, if any.
        inputs: The objects from which the batch was made.
        schema: The columns of its rows.
        json_parts: Its JSON parts.
        delta: Its commit to the Delta table.
        row_count: The number of its rows.
        checksum: The batch checksum, see `checksums.batch_checksum`.
        producer: The job that wrote it.
        model_package: The registered version that scored it; None for a model that is not registered.
        manifest_version: The contract's version, `major.minor`.
        extra: Members that are unknown to this version of the contract.
    """

    model: ModelName
    batch_id: BatchId
    attempt: int
    partition: Partition
    bucket: str
    created_at: str
    model_version: str
    code_version: str
    previous_batch_id: BatchId | None
    inputs: Inputs
    schema: PredictionSchema
    json_parts: tuple[JsonPart, ...]
    delta: DeltaCommit
    row_count: int
    checksum: str
    producer: Producer = Producer()
    model_package: ModelPackage | None = None
    manifest_version: str = MANIFEST_VERSION
    extra: Mapping[str, Any] = _extra()

    @property
    def key(self) -> str:
        """The key under which the manifest must be stored."""
        return done_key(self.model, self.batch_id)

    @property
    def json_prefix(self) -> str:
        """The prefix under which every JSON part must be stored."""
        return json_batch_prefix(self.model, self.partition, self.batch_id)

    def to_document(self) -> dict[str, Any]:
        """Return the manifest as a JSON object, unknown members included."""
        known = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in {"extra", "inputs", "schema", "json_parts", "delta", "producer", "model_package"}
        }
        artifact, package = self.inputs.model_artifact, self.model_package
        # Left out if there is none, so that older manifests keep their digest.
        registered = {} if package is None else {"model_package": _document(package)}
        return {
            **self.extra,
            **known,
            **registered,
            "inputs": {
                **self.inputs.extra,
                "features": [_input_document(features) for features in self.inputs.features],
                "model_artifact": None if artifact is None else _input_document(artifact),
            },
            "schema": self.schema.to_document(),
            "json_parts": [_document(part) for part in self.json_parts],
            "delta": _document(self.delta) | {"files": list(self.delta.files)},
            "producer": _document(self.producer),
        }

    def to_bytes(self) -> bytes:
        """Return the done file's content: canonical JSON in UTF-8."""
        return canonical_bytes(self.to_document())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the canonical content, in hex. Spaces and the order of members do not change it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def _input_document(given: InputObject) -> dict[str, Any]:
    # An absent bucket is left out, so that older manifests keep their digest.
    return {name: value for name, value in _document(given).items() if (name, value) != ("bucket", None)}


def _document(part: Any) -> dict[str, Any]:
    """Return the JSON object of one of the flat classes above."""
    names = [name for name in part.__dataclass_fields__ if name != "extra"]
    return {**part.extra, **{name: getattr(part, name) for name in names}}
