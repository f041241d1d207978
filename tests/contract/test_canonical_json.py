"""Tests of lossless parsing and the canonical form."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.text.canonical_json import (
    InvalidJsonError,
    canonical_bytes,
    canonical_json,
    number_text,
    parse_json,
)
from tests.fakes.foreign_documents import PYTHON

NUMBERS = st.one_of(
    st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.integers(10**36, 10**40)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """Return the value with the members of every object in another order."""
    if isinstance(value, dict):
        names = list(value)
        random.Random(0).shuffle(names)
        return {name: shuffled(value[name]) for name in reversed(names)}
    return [shuffled(element) for element in value] if isinstance(value, list) else value


@given(VALUES)
def test_canonical_form_is_lossless_and_stable(value: Any) -> None:
    """Parsing the canonical form gives the value back, and its canonical form again."""
    content = canonical_bytes(value)
    parsed = parse_json(content)
    assert parsed == value
    assert canonical_bytes(parsed) == content == canonical_bytes(shuffled(value))


@given(VALUES, VALUES)
def test_canonical_form_distinguishes_values(one: Any, other: Any) -> None:
    """Different values have different canonical forms, and values with equal JSON text have the same one."""
    spelled = [json.dumps(value, sort_keys=True, default=number_text) for value in (one, other)]
    if one != other:
        assert canonical_json(one) != canonical_json(other)
    elif spelled[0] == spelled[1]:
        assert canonical_json(one) == canonical_json(other)


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (["1.50", "1.5", "15e-1", "0.15E+1"], "1.5"),
        (["0", "-0", "0.0", "-0.0", "0e7"], "0"),
        (["100", "1e2", "100.000"], "100"),
        (["-9007199254740993", "-9007199254740993.0"], "-9007199254740993"),
        (["1e60", "1" + "0" * 60], "1E+60"),
        (["12.50e-50"], "1.25E-49"),
        (["0." + "0" * 37 + "1", "1e-38"], "0." + "0" * 37 + "1"),
        (["9" * 38], "9" * 38),
        (["1" * 39], f"1.{'1' * 38}E+38"),
    ],
)
def test_equal_numbers_have_one_spelling(spellings: list[str], canonical: str) -> None:
    """However a number is written, its canonical spelling is the same."""
    assert {canonical_json(parse_json(spelling.encode())) for spelling in spellings} == {canonical}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "unparsable"),
        (b'{"a":1', "unparsable"),
        (b'{"a":1} x', "unparsable"),
        (b'"\xff"', "unparsable"),
        (b"\xef\xbb\xbf1", "unparsable"),
        (b"NaN", "not_a_number"),
        (b"[-Infinity]", "not_a_number"),
        (b'{"a":1,"b":{"c":1,"c":1}}', "duplicate_name"),
        (b"9" * 5000, "number_too_long"),
        (b"1e99999999999999999999", "number_too_long"),
        (b"1e9999999", "number_too_long"),
        (b"[-1.5E+309]", "number_too_long"),
        (b"1e-325", "number_too_long"),
        (b"0e9999999", "number_too_long"),
        (b"[" * 200_000, "too_deep"),
    ],
)
def test_refusals_have_stable_reasons(document: bytes, reason: str) -> None:
    """A document that cannot be parsed without loss is refused with its reason."""
    with pytest.raises(InvalidJsonError) as refusal:
        parse_json(document)
    assert refusal.value.reason == reason


def test_floats_and_half_surrogates_have_no_canonical_form() -> None:
    """A float raises a `TypeError`, and half a surrogate pair is refused as invalid JSON."""
    with pytest.raises(TypeError, match="float"):
        canonical_json([1.5])  # type: ignore[list-item]  # the fault under test
    with pytest.raises(InvalidJsonError):
        canonical_bytes(parse_json(b'"\\ud800"'))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'{"a": 1, "facts": {"degrees": [1, {"x": NaN}]}}', "facts.degrees[1].x: NaN is not a JSON number"),
        (b'{"score": -Infinity}', "score: -Infinity is not a JSON number"),
        (b'{"score": 1e999}', "score: A number's exponent is too large or too small for the stores"),
        (b'{"score": NaN, ', "NaN is not a JSON number"),
        (b"NaN", "NaN is not a JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', 'An object names "a" twice'),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        (b'\xff\xfe{\x00"\x00', "UTF-16"),
        (gzip.compress(b"{}", mtime=0), "compressed with gzip"),
        (b'{"a": "x\r\ny"}', "CRLF"),
        (b"", "It is empty"),
        (b"{} {}", "character 3: something follows"),
        (b'{"a": 1', "a comma is missing"),
        (b"{a: 1}", "a name in double quotes is missing"),
    ],
)
def test_json_fault_messages_are_plain(document: bytes, words: str) -> None:
    """An error says where the fault is, or what the file is instead of JSON, without Python terms."""
    with pytest.raises(InvalidJsonError) as caught:
        parse_json(document)
    assert words in caught.value.what
    assert not PYTHON.search(str(caught.value))


def test_refused_numbers_are_located_at_any_depth() -> None:
    """The error names the place of an invalid number even in a deeply nested document."""
    deep = b'{"a": [' * 200 + b"NaN" + b"]}" * 200
    with pytest.raises(InvalidJsonError, match=r"^a\[0\]\.a\[0\]"):
        parse_json(deep)
