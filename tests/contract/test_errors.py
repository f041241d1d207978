"""Tests of the contract's errors."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prediction_contract.errors import (
    ContractError,
    InvalidManifestError,
    InvalidRowError,
    RuleViolationError,
)
from prediction_contract.text.canonical_json import InvalidJsonError


@pytest.mark.parametrize(
    "error",
    [
        InvalidManifestError("No part", remedy="Write one", model="flight_delay", batch_id="b"),
        InvalidRowError("not_a_number", "NaN", column="fare"),
        InvalidJsonError("too_deep", "It nests"),
        RuleViolationError("claim_is_ours", "Not ours", remedy="Stop", model="flight_delay"),
    ],
)
def test_error_survives_pickling(error: ContractError) -> None:
    """An error that reaches another process keeps its type, message and members."""
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


@given(st.text(), st.text(), st.none() | st.text())
@example("\x1b[31mred\n2026-11-29 00:00:00 INFO forged\x9b\u202e", "a", "b")
@example("part.parquet is missing.", "Restore the file.", None)
def test_error_is_one_printable_line(what: str, remedy: str, batch_id: str | None) -> None:
    """Text that is quoted in an error cannot forge log lines or control a terminal."""
    error = ContractError(what, remedy=remedy, batch_id=batch_id)
    for text in (str(error), error.what, error.remedy):
        assert text.isprintable()


@pytest.mark.parametrize("what", ["It is gone", "It is gone.", "It is gone..."])
def test_sentence_ends_with_one_full_stop(what: str) -> None:
    """An error's text that already ends with a full stop gets no second one."""
    error = ContractError(what, remedy="Restore it.")
    assert (error.what, str(error)) == ("It is gone", "It is gone. Restore it.")
