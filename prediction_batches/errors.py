"""Errors in the delivery of predictions."""

from __future__ import annotations

from prediction_contract.errors import ContractError


class PredictionsError(ContractError):
    """The predictions do not fit their schema."""


class ShareConflictError(ContractError):
    """Two writers have written different rows for the same share of the same attempt."""


class WriterEndedError(ContractError):
    """A writer was used after it was closed or after an error."""
