"""Tests of the serving record, which a publication keeps for the API."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.limits import MAX_ITEM_BYTES
from prediction_contract.naming.batch import LONGEST_MODEL_VERSION
from prediction_contract.naming.s3_layout import HIGHEST_VERSION
from prediction_contract.registry.records import LONGEST_REASON
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import LARGEST_SCHEMA_BYTES, MAX_COLUMNS, PredictionSchema
from prediction_contract.stores.serving_record import (
    MAX_ENRICHMENTS,
    MAX_FIELDS,
    Enrichment,
    InvalidServingError,
    ServingRecord,
)
from prediction_contract.text.canonical_json import canonical_json

SCHEMA = PredictionSchema.from_document(
    {
        "key": "flight",
        "columns": [
            {"name": "flight", "type": "string", "nullable": False},
            {"name": "origin", "type": "string", "nullable": True},
            {"name": "hour", "type": "timestamp", "nullable": True},
            {"name": "day", "type": "date", "nullable": True},
            {"name": "seats", "type": "long", "nullable": True},
            {"name": "late", "type": "boolean", "nullable": True},
            {"name": "probability", "type": "double", "nullable": True},
            {"name": "reasons", "type": "json", "nullable": True},
        ],
    }
)
URL = "https://api.weather.example/v1/stations/{origin}/observations?time={hour}"


def weather(url: str = URL, **changes: Any) -> Enrichment:
    """Return an enrichment with these changes."""
    members: dict[str, Any] = {"name": "weather", "fields": ("temp",), **changes}
    return Enrichment(url=url, **members)


def serving(*enrichments: Enrichment, **changes: Any) -> ServingRecord:
    """Return a serving record with these changes."""
    members: dict[str, Any] = {"schema": SCHEMA, "model_version": "7", "row_count": 3, "checksum": "5"}
    return ServingRecord(**{**members, "enrichments": enrichments, **changes})


def test_largest_publication_fits_an_item() -> None:
    """The largest schema and enrichments leave room for the rest of a publication's item."""
    columns = [
        {"name": "k" * 63, "type": "string", "nullable": False},
        *(
            {"name": f"{number:0>4}".rjust(63, "c"), "type": "decimal(38,38)", "nullable": False}
            for number in range(MAX_COLUMNS - 1)
        ),
    ]
    schema = PredictionSchema.from_document({"key": "k" * 63, "columns": columns})
    assert len(canonical_json(schema.to_document())) < LARGEST_SCHEMA_BYTES
    enrichments = [
        Enrichment(
            name=f"e{number}",
            url="https://x/".ljust(2000, "p"),
            fields=tuple(f"{field:0>2}".rjust(63, "f") for field in range(MAX_FIELDS)),
        )
        for number in range(MAX_ENRICHMENTS)
    ]
    own = serving(*enrichments, model_version="v" * LONGEST_MODEL_VERSION).to_json()
    assert LARGEST_SCHEMA_BYTES + len(own) + 4 * LONGEST_REASON < MAX_ITEM_BYTES - 10_000


def test_serving_record_round_trip() -> None:
    """The API reads the record that the publisher wrote, and ignores members of a later version."""
    written = serving(weather(required=True, cache_seconds=0), weather(name="fares", timeout_milliseconds=1))
    assert ServingRecord.from_json(written.to_json()) == written
    assert "model_package_version" not in json.loads(written.to_json())
    registered = replace(written, model_package_version=7)
    assert ServingRecord.from_json(registered.to_json()) == registered
    later = {**json.loads(written.to_json()), "later": [1.5]}
    later["enrichments"][0]["later"] = {}
    assert ServingRecord.from_json(json.dumps(later)) == written


@pytest.mark.parametrize(
    "change",
    [
        {"serving_version": 2},
        {"serving_version": True},
        {"serving_version": None},
        {"schema": {"key": "flight", "columns": []}},
        {"schema": None},
        {"model_version": ""},
        {"model_version": 7},
        {"model_package_version": 0},
        {"model_package_version": HIGHEST_VERSION + 1},
        {"model_package_version": "7"},
        {"model_package_version": None},
        {"row_count": -1},
        {"row_count": "3"},
        {"checksum": "-5"},
        {"checksum": str(2**64)},
        {"enrichments": {}},
        {"enrichments": ["weather"]},
        {"enrichments": [{"name": "weather"}]},
        {"enrichments": [weather().to_document()] * 2},
        {"enrichments": [{**weather().to_document(), "fields": [1]}]},
        {"enrichments": [{**weather().to_document(), "timeout_milliseconds": 1.5}]},
        {"enrichments": [{**weather().to_document(), "required": "no"}]},
        {"enrichments": [weather(name=f"w{number}").to_document() for number in range(9)]},
    ],
    ids=str,
)
def test_invalid_serving_record_is_refused(change: dict[str, Any]) -> None:
    """A record of another version or with an invalid member is refused."""
    document = {**json.loads(serving(weather()).to_json()), **change}
    with pytest.raises(InvalidServingError):
        ServingRecord.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', "NaN", "\ud800"])
def test_text_without_json_object_is_refused(text: str) -> None:
    """Text that is not a valid JSON object raises `InvalidServingError`."""
    with pytest.raises(InvalidServingError):
        ServingRecord.from_json(text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://api.example/x",
        "https://",
        "https://api.example",
        "https://{origin}.example/x",
        "https://api.example:{seats}/x",
        "https://api.example:0/x",
        "https://api.example:65536/x",
        "https://api.example:99999/x",
        "https://user:pass@api.example/x",
        "https://API.example/x",
        "https://api.example/x y",
        "https://api.example/x#part",
        "https://api.example/x\r\nHost: evil",
        "https://api.example\\@evil.example/x",
        "https://api.example/{Origin}",
        "https://api.example/{origin",
        "https://api.example/ü",
        "https://api.example/" + "x" * 2000,
    ],
)
def test_unsafe_url_is_refused(url: str) -> None:
    """A URL that is malformed, or could lead to another host, is refused."""
    with pytest.raises(InvalidServingError):
        weather(url)


@pytest.mark.parametrize("column", ["probability", "reasons", "unknown", "row_checksum"])
def test_unsuitable_url_column_is_refused(column: str) -> None:
    """A URL cannot contain the value of an unknown, floating-point or JSON column."""
    with pytest.raises(InvalidServingError, match=column):
        serving(weather(f"https://api.example/{{{column}}}"))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Weather"},
        {"name": ""},
        {"fields": ()},
        {"fields": ("temp", "temp")},
        {"fields": ("a b",)},
        {"timeout_milliseconds": 0},
        {"timeout_milliseconds": 5001},
        {"cache_seconds": -1},
        {"cache_seconds": 86_401},
    ],
    ids=str,
)
def test_invalid_enrichment_is_refused(change: dict[str, Any]) -> None:
    """An enrichment with an invalid name, field, timeout or cache time is refused."""
    with pytest.raises(InvalidServingError):
        weather(**change)


def test_url_is_filled_with_row_values() -> None:
    """A URL is filled with the percent-encoded key, strings, times, dates, integers and booleans."""
    template = "http://127.0.0.1:80/{entity_id}/{flight}/{origin}?h={hour}&d={day}&s={seats}&l={late}"
    line = (
        '{"flight":"Zü/1?&","origin":"a b","hour":"2013-02-01T05:00:00-05:00","day":"2013-02-01",'
        '"seats":9007199254740993,"late":false}'
    )
    row = row_contract(SCHEMA).accept(line.encode())
    assert weather(template).url_for(row) == (
        "http://127.0.0.1:80/Z%C3%BC%2F1%3F%26/Z%C3%BC%2F1%3F%26/a%20b?h=2013-02-01T10%3A00%3A00.000000Z"
        "&d=2013-02-01&s=9007199254740993&l=false"
    )


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        ".",
        "..",
        "../private/all.json",
        "a/../../private",
        "a/..",
        "./a",
        "..\\private",
        "..;v=1/private",
        "%2e%2e/private",
        "..%2fprivate",
        "%252E%252e%252fprivate",
    ],
)
def test_unsafe_value_yields_no_url(origin: str | None) -> None:
    """A missing value, or one that a server could read as another path, yields no URL."""
    row = row_contract(SCHEMA).accept(
        json.dumps({"flight": "A", "origin": origin, "hour": "2013-02-01T05:00:00Z"}).encode()
    )
    assert weather().url_for(row) is None


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
STEPS = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "%2e", "%2F", "%5c", "%25", ";", "?", "a"]), min_size=1, max_size=8
).map("".join)


@given(VALUES | STEPS)
def test_value_cannot_change_url_target(value: str) -> None:
    """No value changes the scheme, host, path depth or query of a URL.

    This also holds for servers that decode the path once or twice before they resolve its dot segments.
    """
    row_text = json.dumps({"flight": "A", "origin": value, "hour": "2013-02-01T05:00:00Z"})
    row = row_contract(SCHEMA).accept(row_text.encode())
    url = weather().url_for(row)
    if url is None:
        assert "." in value or "%2e" in value.lower()
        return
    path = url.removeprefix("https://api.weather.example").partition("?")[0]
    for _ in range(2):
        path = unquote(path)
        segments = [segment.partition(";")[0] for segment in path.replace("\\", "/").split("/")]
        assert posixpath.normpath("/".join(segments)).startswith("/v1/stations")
        assert not {".", ".."} & set(segments)
    assert url.startswith("https://api.weather.example/v1/stations/")
    assert url.endswith("/observations?time=2013-02-01T05%3A00%3A00.000000Z")
    assert (url.count("/"), url.count("?"), url.count("#")) == (6, 1, 0)
    assert url.isascii()
    assert url.isprintable()


def test_origin_is_scheme_host_and_port() -> None:
    """A deployment allows an enrichment by its origin: scheme, host and port."""
    assert weather().origin == "https://api.weather.example"
    assert weather("http://[::1]:8080/x").origin == "http://[::1]:8080"
    assert weather().placeholders == ("origin", "hour")
