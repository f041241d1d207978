"""Reads a manifest's JSON member by member. Every error names the path of the invalid member."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Never, TypeVar

from prediction_contract.errors import (
    ContractError,
    InvalidManifestError,
    InvalidNameError,
    SchemaError,
    UnsupportedManifestVersionError,
)
from prediction_contract.manifests.manifest_records import (
    MANIFEST_VERSION,
    DeltaCommit,
    InputObject,
    Inputs,
    JsonPart,
    Manifest,
    ModelPackage,
    Producer,
)
from prediction_contract.naming.batch import LONGEST_MODEL_VERSION, BatchId, ModelName, Partition
from prediction_contract.naming.s3_layout import HIGHEST_VERSION, validated_bucket, validated_key
from prediction_contract.rows.checksums import parse_batch_checksum
from prediction_contract.rows.schema import LARGEST_SCHEMA_BYTES, PredictionSchema
from prediction_contract.text.canonical_json import canonical_json
from prediction_contract.text.utc_time import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST_PATTERN = "[0-9a-f]{64}"
LARGEST_NUMBER = (1 << 63) - 1
LONGEST_TEXT = 2048

_DIGEST = re.compile(DIGEST_PATTERN)
_VERSION = re.compile("(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)")
_CONTROL = re.compile("[\x00-\x1f\x7f]")

_T = TypeVar("_T")


def read_manifest(document: Any) -> Manifest:
    """Return the manifest of a parsed JSON document. Only the form of each member is checked.

    Raises:
        InvalidManifestError: A member is missing or invalid.
        UnsupportedManifestVersionError: It has another major version.
    """
    if not isinstance(document, dict):
        raise InvalidManifestError("The manifest is not a JSON object", remedy="Write it with build_manifest")
    members = _Members(document, "", document)
    version = members.take("manifest_version", _version)
    return Manifest(
        manifest_version=version,
        model=members.take("model", ModelName),
        batch_id=members.take("batch_id", BatchId),
        attempt=members.number("attempt", least=1),
        partition=members.take("partition", Partition),
        bucket=members.take("bucket", validated_bucket),
        created_at=members.take("created_at", _time),
        model_version=members.take("model_version", _model_version),
        code_version=members.take("code_version", _text),
        previous_batch_id=members.take("previous_batch_id", BatchId, optional=True),
        inputs=_inputs(members.object("inputs")),
        schema=members.schema("schema"),
        json_parts=tuple(_json_part(part) for part in members.objects("json_parts")),
        delta=_delta(members.object("delta")),
        row_count=members.number("row_count"),
        checksum=members.take("checksum", _checksum),
        producer=_producer(members.object("producer")),
        model_package=_model_package(members.object("model_package")) if "model_package" in members else None,
        extra=members.rest(),
    )


def _inputs(members: _Members) -> Inputs:
    artifact = members.object("model_artifact", optional=True)
    return Inputs(
        features=tuple(_input_object(features) for features in members.objects("features")),
        model_artifact=None if artifact is None else _input_object(artifact),
        extra=members.rest(),
    )


def _input_object(members: _Members) -> InputObject:
    return InputObject(
        key=members.take("key", validated_key),
        sha256=members.take("sha256", _digest),
        bucket=members.take("bucket", validated_bucket) if "bucket" in members else None,
        extra=members.rest(),
    )


def _json_part(members: _Members) -> JsonPart:
    return JsonPart(
        key=members.take("key", validated_key),
        rows=members.number("rows"),
        bytes=members.number("bytes"),
        sha256=members.take("sha256", _digest),
        extra=members.rest(),
    )


def _delta(members: _Members) -> DeltaCommit:
    return DeltaCommit(
        table=members.take("table", _table),
        version=members.number("version"),
        files=members.texts("files", _data_file),
        rows=members.number("rows"),
        extra=members.rest(),
    )


def _producer(members: _Members) -> Producer:
    return Producer(
        job_name=members.take("job_name", _text, optional=True),
        job_arn=members.take("job_arn", _text, optional=True),
        extra=members.rest(),
    )


def _model_package(members: _Members) -> ModelPackage:
    return ModelPackage(
        arn=members.take("arn", _text),
        version=members.number("version", least=1, most=HIGHEST_VERSION),
        digest=members.take("digest", _model_version),
        approved_by=members.take("approved_by", _text, optional=True),
        extra=members.rest(),
    )


class _Members:
    """The members of a JSON object. The caller takes members by name; the others are `rest`."""

    def __init__(self, document: dict[str, Any], path: str, whole: dict[str, Any]) -> None:
        self._document = document
        self._path = path
        self._whole = whole
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def take(self, name: str, form: Callable[[str], _T], *, optional: bool = False) -> _T:
        """Return a text member, converted by `form`; None, despite the type, if it is optional and null."""
        value = self._get(name, optional=optional)
        if value is None and optional:
            return value  # type: ignore[return-value]  # the records declare these members as optional
        return self._formed(name, value, form)

    def texts(self, name: str, form: Callable[[str], _T]) -> tuple[_T, ...]:
        values = self._list(name)
        return tuple(self._formed(f"{name}[{number}]", value, form) for number, value in enumerate(values))

    def number(self, name: str, least: int = 0, most: int = LARGEST_NUMBER) -> int:
        value = self._get(name)
        # Compared before it is converted, because a huge exponent makes arithmetic and conversion fail.
        if isinstance(value, Decimal) and 0 <= value <= most and value == value.to_integral_value():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            self.fail(name, f"is not an integer from {least} to {most}")
        return value

    def object(self, name: str, *, optional: bool = False) -> Any:
        """Return the members of an object member. If it is optional and null, return None."""
        value = self._get(name, optional=optional)
        return None if value is None and optional else self._object(name, value)

    def objects(self, name: str) -> list[_Members]:
        return [self._object(f"{name}[{number}]", value) for number, value in enumerate(self._list(name))]

    def schema(self, name: str) -> PredictionSchema:
        try:
            schema = PredictionSchema.from_document(self._get(name), name)
        except SchemaError as error:
            self.fail(name, f"is not a prediction schema: {error.what}", remedy=error.remedy, cause=error)
        size = len(canonical_json(schema.to_document()).encode(errors="surrogatepass"))
        # Each publication's registry item contains the schema.
        if size > LARGEST_SCHEMA_BYTES:
            self.fail(name, f"has {size} bytes; at most {LARGEST_SCHEMA_BYTES} are allowed")
        return schema

    def rest(self) -> dict[str, Any]:
        return {name: value for name, value in self._document.items() if name not in self._taken}

    def fail(self, name: str, what: str, *, remedy: str = "", cause: Exception | None = None) -> Never:
        kind = (
            UnsupportedManifestVersionError if isinstance(cause, _OtherMajorError) else InvalidManifestError
        )
        raise kind(
            f"{self._path}{name} {what}",
            remedy=remedy or "Correct it by manifest.schema.json and deliver the manifest again",
            model=_if_valid(self._whole.get("model"), ModelName),
            batch_id=_if_valid(self._whole.get("batch_id"), BatchId),
        ) from cause

    def _get(self, name: str, *, optional: bool = False) -> Any:
        self._taken.add(name)
        if name not in self._document and not optional:
            self.fail(name, "is missing")
        return self._document.get(name)

    def _formed(self, name: str, value: Any, form: Callable[[str], _T]) -> _T:
        if not isinstance(value, str):
            self.fail(name, "is not a string")
        try:
            return form(value)
        except ContractError as error:
            self.fail(name, f"is wrong: {error.what}", remedy=error.remedy, cause=error)
        except ValueError as error:
            self.fail(name, f"is wrong: {error}", cause=error)

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            self.fail(name, "is not a list")
        return value

    def _object(self, name: str, value: Any) -> _Members:
        if not isinstance(value, dict):
            self.fail(name, "is not an object")
        return _Members(value, f"{self._path}{name}.", self._whole)


class _OtherMajorError(ContractError):
    """The document has another major version."""


def _version(text: str) -> str:
    found = _VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:40]!r} does not have the form {MANIFEST_VERSION}")
    ours = MANIFEST_VERSION.partition(".")[0]
    if found[1] != ours:
        raise _OtherMajorError(
            f"version {text[:40]} does not have the supported major version {ours}",
            remedy="Deploy a release that reads it, or write the manifest in a supported version",
        )
    return text


def _time(text: str) -> str:
    parse_utc(text)
    return text


def _text(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_TEXT:
        raise ValueError(f"it has {len(text)} characters, not 1 to {LONGEST_TEXT}")
    if "\r" in text:
        raise ValueError("it contains a carriage return, perhaps from a file with CRLF line endings")
    if _CONTROL.search(text):
        raise ValueError("it contains a control character")
    return text


def _model_version(text: str) -> str:
    if len(text) > LONGEST_MODEL_VERSION:
        raise ValueError(f"it has {len(text)} characters, not 1 to {LONGEST_MODEL_VERSION}")
    return _text(text)


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("it is not a SHA-256 in lower-case hex")
    return text


def _checksum(text: str) -> str:
    parse_batch_checksum(text)
    return text


def _table(text: str) -> str:
    if not text.endswith("/"):
        raise ValueError("a table's prefix must end with '/'")
    return f"{validated_key(text[:-1])}/"


def _data_file(text: str) -> str:
    # Delta and Spark treat files whose names begin with '_' or '.' as logs or hidden files.
    hidden = any(segment.startswith(("_", ".")) for segment in validated_key(text).split("/"))
    if hidden or not text.endswith(".parquet"):
        raise ValueError(f"{text[:200]!r} is not a data file of a Delta table")
    return text


def _if_valid(value: Any, form: Callable[[str], str]) -> str | None:
    try:
        return form(value) if isinstance(value, str) else None
    except InvalidNameError:
        return None
