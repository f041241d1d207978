"""Tests of the checksums of rows and batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.rows.checksums import batch_checksum, parse_batch_checksum, row_checksum

CHECKSUMS = st.lists(st.integers(-(2**63), 2**63 - 1))


@given(st.binary())
def test_row_checksum_is_signed_64_bit(content: bytes) -> None:
    """A row's checksum fits a signed 64-bit integer, and differs with an added byte."""
    assert -(2**63) <= row_checksum(content) < 2**63
    assert row_checksum(content) != row_checksum(content + b"\0")


def test_row_checksum_never_changes() -> None:
    """The checksum of known bytes never changes, so that stored checksums stay valid."""
    assert row_checksum(b'{"a":1}') == 2273192342946969294


@given(CHECKSUMS, CHECKSUMS)
def test_batch_checksum_adds_up(one: list[int], other: list[int]) -> None:
    """The order does not matter, and the checksums of parts sum to that of the whole."""
    whole = batch_checksum(reversed(one + other))
    assert whole == batch_checksum([parse_batch_checksum(batch_checksum(part)) for part in (one, other)])
    assert 0 <= parse_batch_checksum(whole) < 2**64


@pytest.mark.parametrize("text", ["", "-1", "01", "1.0", str(2**64), "٣", "1" * 5000, "0x1"])
def test_malformed_batch_checksum_is_refused(text: str) -> None:
    """Only the canonical decimal text of an unsigned 64-bit number is accepted."""
    with pytest.raises(ValueError, match="batch checksum"):
        parse_batch_checksum(text)
