"""The data that a model's features are made from: files, Delta tables, queries, and readers."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, PlainValidator, model_validator
from pydantic_core import CoreSchema

from model_declaration.validation import (
    ColumnTypeText,
    DeclarationPart,
    ObjectName,
    fault,
    inconsistency,
    matching,
    raise_together,
)
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import PLACEHOLDERS, SOURCE_FORMATS, Source
from prediction_contract.naming.s3_layout import validated_bucket, validated_key

# More than a year of hours.
LONGEST_HISTORY = 9000
# Functions receive other arguments by these names.
_TAKEN_NAMES = frozenset({"partition", "examples", "features", "model", "previous"})
_NAME = re.compile("[a-z][a-z0-9_]{0,62}")
_PLACEHOLDER = re.compile("[{]([^{}]*)[}]")
_PARAMETER = re.compile("%(?:%|[(]([A-Za-z_][A-Za-z0-9_]*)[)]s|(.?))")


def _bucket(value: str) -> str:
    try:
        return validated_bucket(value)
    except ContractError as error:
        raise fault(str(error)) from error


def _placeholders(value: str) -> str:
    for name in _PLACEHOLDER.findall(value):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            raise fault(f"{{{name}}} is not a placeholder: use {known}")
    if set(_PLACEHOLDER.sub("", value)) & set("{}"):
        raise fault("a brace is not part of a placeholder")
    return value


def _path(value: str) -> str:
    _placeholders(value)
    try:
        validated_key(_PLACEHOLDER.sub("0", value).replace("*", "0"))
    except ContractError as error:
        raise fault(str(error)) from error
    if set(value.partition("/")[0]) & set("{*"):
        # A job's role may read only keys that begin with this text.
        raise fault("it begins with a placeholder: begin with a folder, as in orders/dt={date}/*.parquet")
    return value


BucketName = Annotated[str, AfterValidator(_bucket)]
_Path = Annotated[str, AfterValidator(_path)]
_AssetKey = Annotated[
    str,
    *matching("[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", "it is not an asset key, such as raw/orders"),
]
_SecretName = Annotated[str, *matching("[A-Za-z0-9/_+=.@-]{1,512}", "it is not the name of a secret")]
_ParameterText = Annotated[str, AfterValidator(_placeholders)]


class DeclaredSource(DeclarationPart):
    """The fields that all sources share.

    Attributes:
        history: How many earlier partitions are read in addition to the partition itself.
        columns: The type of each column by name, as for predictions; by default those of the data.
        known_at: The timestamp column that holds when a row became known; functions receive only rows that
            became known before the partition begins.
        asset: The key of the Dagster asset that makes the data, with `/` between its parts.
    """

    # Why columns must be declared; empty if the data has column types of its own.
    NEEDS_COLUMNS: ClassVar[str] = ""

    history: int = Field(default=0, ge=0, le=LONGEST_HISTORY)
    columns: dict[str, ColumnTypeText] = Field(default_factory=dict)
    known_at: str | None = None
    asset: _AssetKey | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse sources that would fail in the middle of a job."""
        raise_together(
            self._require_columns, self._require_known_at, self._require_history, self._require_form
        )
        return self

    def _require_columns(self) -> None:
        if self.NEEDS_COLUMNS and not self.columns:
            raise inconsistency(f"they are missing, and {self.NEEDS_COLUMNS}", "columns")

    def _require_known_at(self) -> None:
        if self.known_at is None or not self.columns:
            # If the data alone has the columns, the job checks them.
            return
        kind = self.columns.get(self.known_at)
        if kind is None:
            raise inconsistency(f"{self.known_at} is not one of this source's columns", "known_at")
        if kind != "timestamp":
            raise inconsistency(f"{self.known_at} is a {kind}, not a timestamp", "known_at")

    def _require_form(self) -> None:
        """Check the rules of the source's own format."""

    @property
    def filled_texts(self) -> dict[tuple[str, ...], str]:
        """The texts whose placeholders are filled in for each partition, by the path of their field."""
        path = getattr(self, "path", None)
        return {} if path is None else {("path",): path}

    @property
    def is_partitioned(self) -> bool:
        """Whether each partition has data of its own."""
        return any(map(_PLACEHOLDER.search, self.filled_texts.values()))

    @property
    def covers_only_its_history(self) -> bool:
        """Whether its data covers only the partition and its history; otherwise it may cover any time."""
        return self.is_partitioned

    def _require_history(self) -> None:
        if self.history and not self.is_partitioned:
            raise inconsistency("without a placeholder every partition reads the same data", "history")

    def as_input(self, name: str) -> Source:
        """Return the source in the form that jobs read, under this name."""
        members: dict[str, Any] = self.model_dump(exclude={"asset"}, exclude_none=True)
        pairs: dict[str, Any] = {
            field: tuple(members.pop(field, {}).items()) for field in ("columns", "parameters")
        }
        return Source(name=name, **members, **pairs)


class _StoredSource(DeclaredSource):
    """Objects in a bucket.

    Attributes:
        path: A key, which may hold `{partition}`, `{date}`, `{hour}` and `*`.
        bucket: The bucket, if it is not the data bucket.
    """

    path: _Path
    bucket: BucketName | None = None


class ParquetSource(_StoredSource):
    """Parquet files."""

    format: Literal["parquet"]


class TextSource(_StoredSource):
    """CSV with a header line, or one JSON object per line; `.gz` files are decompressed."""

    NEEDS_COLUMNS: ClassVar[str] = "a text file has no column types"

    format: Literal["csv", "jsonl"]


class DeltaSource(_StoredSource):
    """A Delta table; the path names its folder."""

    format: Literal["delta"]

    def _require_form(self) -> None:
        if "*" in self.path:
            raise inconsistency("a Delta table is one folder: remove the *", "path")


class SnowflakeSource(DeclaredSource):
    """The result of a Snowflake query.

    Attributes:
        secret: The name of the secret with the connection's credentials.
        query: The query, with `%(name)s` for each parameter.
        parameters: The parameters' values, bound as text; they may hold `{partition}`, `{date}` and `{hour}`.
    """

    NEEDS_COLUMNS: ClassVar[str] = "a result without rows has no column types"

    format: Literal["snowflake"]
    secret: _SecretName
    query: str = Field(min_length=1)
    parameters: dict[str, _ParameterText] = Field(default_factory=dict)

    def _require_form(self) -> None:
        found = list(_PARAMETER.finditer(self.query))
        named = {each[1] for each in found if each[1]}
        if missing := sorted(named - set(self.parameters)):
            raise inconsistency(f"the query names {missing[0]}, which is not a parameter", "parameters")
        if unused := sorted(set(self.parameters) - named):
            raise inconsistency(f"the query does not use it: write %({unused[0]})s", "parameters", unused[0])
        if self.parameters and any(each[2] is not None for each in found):
            raise inconsistency("write % as %%, except in %(name)s for a parameter", "query")

    @property
    def filled_texts(self) -> dict[tuple[str, ...], str]:
        """The values of the parameters."""
        return {("parameters", name): text for name, text in self.parameters.items()}

    @property
    def covers_only_its_history(self) -> bool:
        """Always False: a query may read data of any time."""
        return False


class ReaderSource(DeclaredSource):
    """Data that a class of the project reads.

    Attributes:
        reader: The class, as `module:Class`.
        path: The objects to read, as for files; None if the reader finds its data itself.
        bucket: The bucket, if it is not the data bucket.
    """

    format: Literal["reader"] = "reader"
    reader: ObjectName
    path: _Path | None = None
    bucket: BucketName | None = None

    def _require_history(self) -> None:
        """Allow any history: the reader receives the partitions to read."""


_KINDS: tuple[type[DeclaredSource], ...] = (
    ParquetSource,
    TextSource,
    DeltaSource,
    SnowflakeSource,
    ReaderSource,
)


def _formats(kind: type[DeclaredSource]) -> tuple[str, ...]:
    return get_args(kind.model_fields["format"].annotation)


_BY_FORMAT = {name: kind for kind in _KINDS for name in _formats(kind)}


def _source(value: object) -> DeclaredSource:
    """Validate a source as its format, so that a fault names a field of that format."""
    if isinstance(value, DeclaredSource):
        return value
    if not isinstance(value, Mapping):
        raise fault("a source needs fields, such as {format: parquet, path: ...}")
    name = value.get("format", "reader" if "reader" in value else None)
    kind = _BY_FORMAT.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(SOURCE_FORMATS)
        what = "it is missing" if name is None else f"{name} is not known"
        raise inconsistency(f"{what}: use one of {known}", "format")
    return kind.model_validate(value)


class _SourceSchema:
    """The JSON Schema of a source: all formats' fields, and which of them each format allows and needs."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schemas = {_formats(kind): kind.model_json_schema() for kind in _KINDS}
        fields = {name: field for each in schemas.values() for name, field in each["properties"].items()}
        reader = schemas[_formats(ReaderSource)]
        branches = [
            {
                "if": {"properties": {"format": {"enum": list(names)}}, "required": ["format"]},
                "then": _exact(schema),
            }
            for names, schema in schemas.items()
        ]
        return {
            "type": "object",
            "properties": {**fields, "format": {"type": "string", "enum": list(SOURCE_FORMATS)}},
            "additionalProperties": False,
            "allOf": [*branches, {"if": {"not": {"required": ["format"]}}, "then": _exact(reader)}],
        }


def _exact(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": schema.get("required", []), "propertyNames": {"enum": list(schema["properties"])}}


AnySource = Annotated[DeclaredSource, PlainValidator(_source), _SourceSchema()]


def _source_name(value: str) -> str:
    if not _NAME.fullmatch(value) or keyword.iskeyword(value) or value in _TAKEN_NAMES:
        raise fault(
            f"{value[:80]} cannot name a source, because functions receive it by this name. Use lower-case "
            f"letters, digits and underscores, but not {', '.join(sorted(_TAKEN_NAMES))}"
        )
    return value


SourceName = Annotated[str, AfterValidator(_source_name)]
Sources = dict[SourceName, AnySource]


def require_hours(kind: str, sources: Mapping[str, DeclaredSource]) -> None:
    """Refuse `{hour}` if partitions are longer than an hour, and sources of whole days if they are hours.

    Raises:
        ValidationError: A source contains `{hour}`, or data that is later than the hour.
    """
    if kind == "hourly":
        raise_together(*(partial(_refuse_whole_day, name, source) for name, source in sources.items()))
    else:
        raise_together(
            *(
                partial(_refuse_hour, kind, "sources", name, *field)
                for name, source in sources.items()
                for field, text in source.filled_texts.items()
                if "{hour}" in text
            )
        )


def _refuse_whole_day(name: str, source: DeclaredSource) -> None:
    # A reader is responsible itself for showing only what was known.
    if source.known_at is not None or isinstance(source, ReaderSource):
        return
    named = {found for text in source.filled_texts.values() for found in _PLACEHOLDER.findall(text)}
    if named == {"date"}:
        raise inconsistency(
            "a whole day holds data later than the hour: declare known_at, or add {hour}",
            *("sources", name, *min(source.filled_texts)),
        )


def _refuse_hour(kind: str, *field: str) -> None:
    raise inconsistency(f"a {kind} partition has no {{hour}}", *field)
