"""How a load can end other than well; Glue shows the class's name and the message as the run's error."""

from __future__ import annotations

from prediction_contract.errors import ContractError


class ClaimNotHeldError(ContractError):
    """The registry knows no claim of this job run: it ends without having touched anything."""


class BatchFaultError(ContractError):
    """The batch itself is at fault, as it will be in every load: it is to be refused whole."""


class BatchRefusedError(ContractError):
    """The batch was refused, and the registry says why."""


class LoadFailedError(ContractError):
    """The load could not be carried out; the batch may be loaded again."""
