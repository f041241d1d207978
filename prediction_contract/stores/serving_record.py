"""The data that the API needs to serve a batch, stored as the `serving` JSON of its publication entry.

The publisher builds it from the model's declaration and the manifest. The API needs nothing else, so a new
model or provider needs no new deployment of the API.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote

from prediction_contract.errors import ContractError, SchemaError
from prediction_contract.naming.batch import LONGEST_MODEL_VERSION
from prediction_contract.naming.s3_layout import HIGHEST_VERSION
from prediction_contract.rows.checksums import parse_batch_checksum
from prediction_contract.rows.schema import Kind, PredictionSchema
from prediction_contract.stores.online_item import KEY_ATTRIBUTE
from prediction_contract.text.canonical_json import InvalidJsonError, canonical_json, parse_json
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prediction_contract.rows.row_contract import Row

SERVING_VERSION = 1
MAX_ENRICHMENTS = 8
MAX_FIELDS = 50
# The firewall and the API refuse a request whose query has more characters.
LONGEST_QUERY = 8_192
LONGEST_TIMEOUT_MILLISECONDS = 5_000
LONGEST_CACHE_SECONDS = 86_400

_NAME = re.compile("[a-z][a-z0-9_]{0,40}")
_FIELD = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACEHOLDER = re.compile("[{]([a-z][a-z0-9_]{0,62})[}]")
# Matches 1 to 65535.
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(?![0-9])"
# `http[s]://host[:port]`. A deployment allows providers by their origin.
ORIGIN_PATTERN = rf"https?://(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?|\[[0-9a-f:]{{2,39}}\])(?::{_PORT})?"
LONGEST_ORIGIN = f"https://{'x' * 253}:65535"
_ORIGIN = re.compile(f"({ORIGIN_PATTERN})")
# A URL's path and query without escapes. Placeholders are checked separately.
_REST = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_LONGEST_URL = 2_000
# A proxy may decode a path before the server behind it decodes it again.
_MAX_DECODINGS = 3
# Some servers treat a backslash as a slash.
_SEGMENT_ENDS = re.compile(r"[/\\]")
# Lists, maps and doubles have no unique spelling in a URL.
_PLACEABLE = frozenset(Kind) - {Kind.JSON, Kind.DOUBLE}


class InvalidServingError(ContractError):
    """The serving data of a publication is invalid."""

    def __init__(
        self, what: str, *, remedy: str = "Correct the model's declaration and publish again"
    ) -> None:
        super().__init__(what, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Facts from a third-party provider that the API adds to a prediction.

    Attributes:
        name: The name of the facts in the response, `[a-z][a-z0-9_]{0,40}`.
        url: `https://host/path?query` with `{column}` or `{entity_id}` in path and query, never in the host.
        fields: The members of the provider's JSON object that the response shows.
        timeout_milliseconds: The timeout of one call, 1 to 5,000.
        cache_seconds: How long the provider's answer counts as fresh, 0 to 86,400.
        required: Whether the request fails if these facts are unavailable.

    Raises:
        InvalidServingError: A member is invalid.
    """

    name: str
    url: str
    fields: tuple[str, ...]
    timeout_milliseconds: int = 500
    cache_seconds: int = 300
    required: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidServingError(f"{self.name[:80]!r} is not the name of an enrichment")
        origin = _ORIGIN.match(self.url)
        rest = self.url[origin.end() :] if origin else ""
        if len(self.url) > _LONGEST_URL or not _REST.fullmatch(_PLACEHOLDER.sub("x", rest)):
            raise InvalidServingError(
                f"The URL of enrichment {self.name} is not https://host[:port]/path?query with placeholders "
                "after the host",
            )
        if not 1 <= len(self.fields) <= MAX_FIELDS or len(set(self.fields)) != len(self.fields):
            raise InvalidServingError(f"Enrichment {self.name} must show 1 to {MAX_FIELDS} different fields")
        for field in self.fields:
            if not _FIELD.fullmatch(field):
                raise InvalidServingError(f"{field[:80]!r} is not a field of enrichment {self.name}")
        if not 1 <= self.timeout_milliseconds <= LONGEST_TIMEOUT_MILLISECONDS:
            raise InvalidServingError(
                f"The timeout of enrichment {self.name} is not 1 to {LONGEST_TIMEOUT_MILLISECONDS} ms"
            )
        if not 0 <= self.cache_seconds <= LONGEST_CACHE_SECONDS:
            raise InvalidServingError(
                f"The cache time of enrichment {self.name} is not 0 to {LONGEST_CACHE_SECONDS} s"
            )

    @property
    def origin(self) -> str:
        """Scheme, host and port of the provider, for example `https://api.stock.example`."""
        found = _ORIGIN.match(self.url)
        return found[1] if found else ""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The columns whose values are inserted into the URL; `entity_id` is the key."""
        return tuple(_PLACEHOLDER.findall(self.url))

    def url_for(self, row: Row) -> str | None:
        """Return the URL for a row, with percent-encoded values.

        Returns None if the row has no value for a placeholder, or if a server could interpret a value as a
        step to another path, for example `..` or `../x` (`..%2Fx` in the URL).
        """
        texts: dict[str, str | None] = {KEY_ATTRIBUTE: row.key}
        for (name, value), text in zip(row.values.items(), row.texts, strict=True):
            texts[name] = value if isinstance(value, str) else text and text.strip('"')
        if not all(texts[name] for name in self.placeholders):
            return None
        url = _PLACEHOLDER.sub(lambda found: quote(texts[found[1]] or "", safe=""), self.url)
        path = url[len(self.origin) :].partition("?")[0]
        return None if _has_dot_segment(path) else url

    def to_document(self) -> dict[str, Any]:
        """Return the enrichment as JSON members."""
        return {
            "name": self.name,
            "url": self.url,
            "fields": list(self.fields),
            "timeout_milliseconds": self.timeout_milliseconds,
            "cache_seconds": self.cache_seconds,
            "required": self.required,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Return the enrichment in JSON members. Unknown members are ignored.

        Raises:
            InvalidServingError: A member is missing or invalid.
        """
        with _translate_shape_errors():
            members = members_of(document, "an enrichment")
            fields = member(members, "fields", list)
            if not all(isinstance(field, str) for field in fields):
                raise InvalidServingError("The fields of an enrichment are not all text")
            return cls(
                name=member(members, "name", str),
                url=member(members, "url", str),
                fields=tuple(fields),
                timeout_milliseconds=member(members, "timeout_milliseconds", int),
                cache_seconds=member(members, "cache_seconds", int),
                required=member(members, "required", bool),
            )


@dataclass(frozen=True, slots=True)
class ServingRecord:
    """The data that the API needs about a published batch.

    Attributes:
        schema: The columns of the batch.
        model_version: The version of the model that scored it, 1 to `LONGEST_MODEL_VERSION` characters.
        row_count: The number of accepted rows, without those in quarantine.
        checksum: The manifest's batch checksum, as decimal text.
        enrichments: The enrichments in the order of the response.
        model_package_version: The number of the registered model version that scored it; None for a model
            that is not registered.

    Raises:
        InvalidServingError: A member is invalid, or a URL uses a column that does not exist or has no unique
            spelling (`json`, `double`).
    """

    schema: PredictionSchema
    model_version: str
    row_count: int
    checksum: str
    enrichments: tuple[Enrichment, ...] = ()
    model_package_version: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.model_version) <= LONGEST_MODEL_VERSION:
            raise InvalidServingError(
                f"The model version has {len(self.model_version)} characters, not 1 to "
                f"{LONGEST_MODEL_VERSION}",
                remedy="Score the batch again with a model that has a shorter version",
            )
        number = self.model_package_version
        if number is not None and not 1 <= number <= HIGHEST_VERSION:
            raise InvalidServingError(f"{number} is not the number of a model version")
        if self.row_count < 0:
            raise InvalidServingError(f"{self.row_count} is not a number of rows")
        try:
            parse_batch_checksum(self.checksum)
        except ValueError as error:
            raise InvalidServingError("The checksum is not a batch checksum") from error
        names = [enrichment.name for enrichment in self.enrichments]
        if len(names) > MAX_ENRICHMENTS or len(set(names)) != len(names):
            raise InvalidServingError(
                f"An answer has at most {MAX_ENRICHMENTS} enrichments, with unique names"
            )
        placeable = {KEY_ATTRIBUTE} | {
            column.name for column in self.schema.columns if column.type.kind in _PLACEABLE
        }
        for enrichment in self.enrichments:
            for name in enrichment.placeholders:
                if name not in placeable:
                    raise InvalidServingError(
                        f"The URL of enrichment {enrichment.name} uses {name}, which is not a column or is a "
                        "json or double column"
                    )

    def to_json(self) -> str:
        """Return the text for the publication entry's `serving`."""
        number = self.model_package_version
        return canonical_json(
            {
                "serving_version": SERVING_VERSION,
                "schema": self.schema.to_document(),
                "model_version": self.model_version,
                **({} if number is None else {"model_package_version": number}),
                "row_count": self.row_count,
                "checksum": self.checksum,
                "enrichments": [enrichment.to_document() for enrichment in self.enrichments],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record in a publication entry's text. Unknown members are ignored.

        Raises:
            InvalidServingError: The text is not JSON or has another version, or a member is invalid.
        """
        try:
            document = parse_json(text.encode())
        except (InvalidJsonError, UnicodeEncodeError) as error:
            raise InvalidServingError("The serving record is not JSON") from error
        with _translate_shape_errors():
            members = members_of(document, "the record")
            version = member(members, "serving_version", int)
            if version != SERVING_VERSION:
                raise InvalidServingError(
                    f"The serving record has version {version}, but this code supports {SERVING_VERSION}",
                    remedy="Deploy the API and the publisher from the same release",
                )
            try:
                schema = PredictionSchema.from_document(member(members, "schema", dict))
            except SchemaError as error:
                raise InvalidServingError(f"The serving record's schema is invalid: {error.what}") from error
            return cls(
                schema=schema,
                model_version=member(members, "model_version", str),
                row_count=member(members, "row_count", int),
                checksum=member(members, "checksum", str),
                enrichments=tuple(map(Enrichment.from_document, member(members, "enrichments", list))),
                model_package_version=member(members, "model_package_version", int)
                if "model_package_version" in members
                else None,
            )


def _has_dot_segment(path: str) -> bool:
    """Return whether an encoded path has a `.` or `..` segment after any number of decodings."""
    for _ in range(_MAX_DECODINGS):
        path = unquote(path)
        # Some servers cut off a segment's parameters and read `..;x` as `..`.
        if any(segment.partition(";")[0] in {".", ".."} for segment in _SEGMENT_ENDS.split(path)):
            return True
    return False


@contextmanager
def _translate_shape_errors() -> Iterator[None]:
    """Turn a `DocumentShapeError` into an `InvalidServingError`."""
    try:
        yield
    except DocumentShapeError as error:
        raise InvalidServingError(f"The serving record cannot be read: {error}") from error
