"""Every error of the contract: what is wrong, with which batch, and what to do about it."""

from __future__ import annotations

from typing import Any

from prediction_contract.printable_text import escape_unprintable


class ContractError(Exception):
    """Something broke the contract.

    It is read in terminals and logs, so whatever it quotes is made printable. It keeps one full stop where a
    text that it quotes ends in one.

    Args:
        what: One sentence: the fault and the offending value's name, never its secret.
        remedy: One sentence: what the reader can do about it.
        model: The model concerned, if known.
        batch_id: The batch concerned, if known.
    """

    def __init__(
        self, what: str, *, remedy: str, model: str | None = None, batch_id: str | None = None
    ) -> None:
        self.what = escape_unprintable(what).rstrip(". ")
        self.remedy = escape_unprintable(remedy).rstrip(". ")
        self.model = model
        self.batch_id = batch_id
        concerned = escape_unprintable("/".join(part for part in (model, batch_id) if part))
        super().__init__(f"{f'{concerned}: ' if concerned else ''}{self.what}. {self.remedy}.")

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between the processes of a job; by default one is made again of its message alone.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ContractError], args: tuple[Any, ...], members: dict[str, Any]) -> ContractError:
    """Return an error that was pickled, without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(members)
    return error


class InvalidNameError(ContractError):
    """A model, column, partition, batch id or key does not have the form the contract gives it."""


class SchemaError(ContractError):
    """A prediction schema contradicts itself or names a type the contract does not know."""


class InvalidManifestError(ContractError):
    """A done file is not a manifest the platform may act on: the batch is refused whole."""


class UnsupportedManifestVersionError(InvalidManifestError):
    """The done file was written by a newer major version of the contract."""


class JobArgumentsError(ContractError):
    """A Glue or SageMaker job was started with arguments its script cannot run with."""


class InvalidRowError(ContractError):
    """One row cannot be stored: it goes to quarantine.

    Args:
        reason: The stable word that the quarantine counts by, say `not_a_number`.
        column: The column at fault, if it is one.
        what: As in `ContractError`.

    Attributes:
        checksum: What the row counts as, if it is known.
    """

    def __init__(self, reason: str, what: str, *, column: str | None = None) -> None:
        self.reason = reason
        self.column = column
        self.checksum: int | None = None
        super().__init__(what, remedy="The row goes to quarantine; correct it in a new batch")


class RuleViolationError(ContractError):
    """The registry's rules do not allow the transition.

    Args:
        condition: The name of the first condition that did not hold, say `target_is_verified`.
        what: As in `ContractError`.
        remedy: As in `ContractError`.
        model: As in `ContractError`.
        batch_id: As in `ContractError`.
    """

    def __init__(
        self, condition: str, what: str, *, remedy: str, model: str, batch_id: str | None = None
    ) -> None:
        self.condition = condition
        super().__init__(what, remedy=remedy, model=model, batch_id=batch_id)


class RegistryUnavailableError(ContractError):
    """The registry could not be changed in time, for no reason that lies in its rules."""
