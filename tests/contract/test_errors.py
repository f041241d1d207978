"""Errors of the contract reach another process as they were raised."""

from __future__ import annotations

import pickle

import pytest

from prediction_contract.canonical_json import InvalidJsonError
from prediction_contract.errors import (
    ContractError,
    InvalidManifestError,
    InvalidRowError,
    RuleViolationError,
)


@pytest.mark.parametrize(
    "error",
    [
        InvalidManifestError("No part", remedy="Write one", model="flight_delay", batch_id="b"),
        InvalidRowError("not_a_number", "NaN", column="fare"),
        InvalidJsonError("too_deep", "It nests"),
        RuleViolationError("claim_is_ours", "Not ours", remedy="Stop", model="flight_delay"),
    ],
)
def test_an_error_survives_pickling(error: ContractError) -> None:
    """Kind, message and every member are those of the error that was raised."""
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
