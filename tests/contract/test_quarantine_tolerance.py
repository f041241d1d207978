"""Tests of how many rows of a batch may be refused: by default, as declared, and never all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

TOLERANCES = st.builds(
    QuarantineTolerance,
    rows=st.none() | st.integers(0, 100_000),
    rate=st.none() | st.decimals(0, 1, places=6),
)


@pytest.mark.parametrize(
    ("rows", "allowed"),
    [
        (0, 0),
        (1, 0),
        (6, 0),
        (99, 0),
        (100, 1),
        (199, 1),
        (200, 2),
        (999, 9),
        (1_000, 10),
        (9_999, 10),
        (10_000, 10),
        (10_001, 10),
        (10_999, 10),
        (11_000, 11),
        (5_000_000, 5_000),
    ],
)
def test_default_tolerance_grows_with_the_batch(rows: int, allowed: int) -> None:
    """Small batches may lose no row, medium ones 1 % up to 10 rows, and large ones 0.1 %."""
    tolerance = QuarantineTolerance()
    assert tolerance.allowed(rows) == allowed


@pytest.mark.parametrize(
    ("tolerance", "rows", "allowed"),
    [
        (QuarantineTolerance(rows=0), 5_000_000, 0),
        (QuarantineTolerance(rows=3), 50, 3),
        (QuarantineTolerance(rows=3), 5_000_000, 3),
        (QuarantineTolerance(rate=Decimal("0.25")), 48, 12),
        (QuarantineTolerance(rate=Decimal(0)), 5_000_000, 0),
        (QuarantineTolerance(rows=3, rate=Decimal("0.5")), 4, 3),
        (QuarantineTolerance(rows=3, rate=Decimal("0.5")), 20, 10),
        (QuarantineTolerance(rows=10), 6, 5),
        (QuarantineTolerance(rate=Decimal(1)), 6, 5),
        (QuarantineTolerance(rows=10), 1, 0),
    ],
)
def test_declared_tolerance_replaces_the_default(
    tolerance: QuarantineTolerance, rows: int, allowed: int
) -> None:
    """The larger of the declared number and rate counts, and at least one row must remain."""
    assert tolerance.allowed(rows) == allowed


def test_fault_states_the_numbers_of_rows() -> None:
    """A batch beyond its tolerance has a fault that states how many rows were refused and may be."""
    tolerance = QuarantineTolerance(rows=10)
    assert tolerance.fault(30, 10) is None
    assert tolerance.fault(30, 11) == "11 of 30 rows were refused, and 10 may be"
    assert tolerance.fault(6, 6) == "None of 6 rows was accepted"
    assert tolerance.fault(0, 0) == "The batch has no rows"


@given(tolerance=TOLERANCES, rows=st.integers(0, 1_000_000), data=st.data())
def test_batch_without_accepted_rows_is_at_fault(
    tolerance: QuarantineTolerance, rows: int, data: st.DataObject
) -> None:
    """A batch is at fault if more rows are refused than allowed or no row is accepted."""
    refused = data.draw(st.integers(0, rows))
    at_fault = tolerance.fault(rows, refused) is not None
    assert at_fault == (refused > tolerance.allowed(rows) or refused == rows)
    assert tolerance.fault(rows, rows) is not None
