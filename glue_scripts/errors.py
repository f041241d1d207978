"""How a load can fail; Glue shows the class's name and the message as the job run's error."""

from __future__ import annotations

from prediction_contract.errors import ContractError


class ClaimNotHeldError(ContractError):
    """This job run does not hold the claim on the batch, and must not touch anything."""


class BatchFaultError(ContractError):
    """The batch itself is faulty; every load would find the same, so the whole batch is refused."""


class BatchRefusedError(ContractError):
    """The batch was refused; the registry holds the reason."""


class LoadFailedError(ContractError):
    """The load failed; the batch can be loaded again."""
