"""What all parts of a declaration share: strictness, and texts that YAML would read as something else."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated

import dagster as dg
from pydantic import BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import PARTITION_PATTERN, Partition


def _partition(value: object) -> str:
    # YAML reads an unquoted 2013-01-01 as a date.
    try:
        partition = Partition(str(value))
    except ContractError as error:
        raise ValueError(str(error)) from error
    return str(partition)


def inconsistency(what: str, *field: str | int) -> ValidationError:
    """Return the error for a validator over several fields to raise; it names the one to correct.

    Args:
        what: What is wrong.
        field: The path of the field, as seen from the validator's own part of the declaration.
    """
    error = PydanticCustomError("inconsistent", "{what}", {"what": what})
    return ValidationError.from_exception_data(
        "declaration", [{"type": error, "loc": field, "input": ".".join(map(str, field))}]
    )


def raise_together(*checks: Callable[[], object]) -> None:
    """Run checks that may raise an inconsistency each, and raise one error of all that did."""
    found: list[InitErrorDetails] = []
    for check in checks:
        try:
            check()
        except ValidationError as error:
            found += [
                InitErrorDetails(
                    type=PydanticCustomError("inconsistent", "{what}", {"what": cause["msg"]}),
                    loc=cause["loc"],
                    input=cause["input"],
                )
                for cause in error.errors(include_url=False, include_context=False)
            ]
    if found:
        raise ValidationError.from_exception_data("declaration", found)


def _share(value: object) -> str:
    # As text, because a YAML float is a binary one; the contract compares decimals.
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        share = Decimal("NaN")
    if share.is_nan() or not 0 <= share <= 1:
        raise ValueError("it is no number from 0 to 1")
    return format(share, "f")


# A pattern is what `dg check yaml` can judge without loading the code location.
PartitionText = Annotated[
    str, BeforeValidator(_partition), WithJsonSchema({"type": "string", "pattern": f"^{PARTITION_PATTERN}$"})
]
# A number that is kept as text may be written as either.
NumberOrText = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
Share = Annotated[str, BeforeValidator(_share), NumberOrText]


class DeclaredModel(dg.Model, dg.Resolvable):
    """Shared by all parts of a declaration: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
