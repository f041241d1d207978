"""What is wrong with predictions that a program wants to deliver."""

from __future__ import annotations

from prediction_contract.errors import ContractError


class PredictionsError(ContractError):
    """Predictions are not what their schema declares."""
