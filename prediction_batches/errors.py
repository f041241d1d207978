"""What is wrong with predictions that a program wants to deliver."""

from __future__ import annotations

from prediction_contract.errors import ContractError


class PredictionsError(ContractError):
    """Predictions are not what their schema declares."""


class ShareConflictError(ContractError):
    """Two writers of the same share of one attempt have written different rows."""


class WriterEndedError(ContractError):
    """A writer was asked for more after it was closed, or after an error had ended it."""
