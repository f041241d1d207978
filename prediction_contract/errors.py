"""The contract's errors. Each message says what is wrong, with which batch, and what to do about it."""

from __future__ import annotations

from typing import Any

from prediction_contract.printable_text import escape_unprintable


class ContractError(Exception):
    """Something broke the contract.

    Unprintable characters are escaped, because the message is read in terminals and logs. Either sentence may
    end with a full stop or without.

    Args:
        what: What is wrong, in one sentence. It names the offending value and never quotes a secret.
        remedy: What the reader can do about it, in one sentence.
        model: The affected model, if known.
        batch_id: The affected batch, if known.
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
        # Errors travel between the processes of a job. By default, unpickling would call the constructor with
        # the message alone.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ContractError], args: tuple[Any, ...], members: dict[str, Any]) -> ContractError:
    """Rebuild a pickled error without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(members)
    return error


class InvalidNameError(ContractError):
    """A model, column, partition, batch id or key has an invalid form."""


class SchemaError(ContractError):
    """A prediction schema contradicts itself or uses an unknown column type."""


class InvalidManifestError(ContractError):
    """A done file is not a valid manifest. The whole batch is refused."""


class UnsupportedManifestVersionError(InvalidManifestError):
    """The done file was written by a newer major version of the contract."""


class JobArgumentsError(ContractError):
    """A Glue or SageMaker job was started with invalid arguments."""


class InvalidRowError(ContractError):
    """A row cannot be stored and goes to quarantine.

    Args:
        reason: The stable identifier under which the quarantine counts the row, for example `not_a_number`.
        column: The column at fault, if any.
        what: As in `ContractError`.

    Attributes:
        checksum: The row's share of the batch checksum, if it is known.
    """

    def __init__(self, reason: str, what: str, *, column: str | None = None) -> None:
        self.reason = reason
        self.column = column
        self.checksum: int | None = None
        super().__init__(what, remedy="The row goes to quarantine; correct it in a new batch")


class RuleViolationError(ContractError):
    """The registry's rules do not allow a change.

    Args:
        condition: The name of the first condition that did not hold, for example `target_is_verified`.
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
    """The registry could not be read or changed in time. No rule was broken, so the caller may retry."""
