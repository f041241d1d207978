"""Shared validation of all parts of a declaration: strict fields, faults by field, and field types."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import PARTITION_PATTERN, Partition
from prediction_contract.rows.schema import ColumnType


class DeclarationPart(BaseModel):
    """The base of all parts of a declaration; it refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(what: str) -> PydanticCustomError:
    """Return an error for a validator to raise, shown without a prefix."""
    return PydanticCustomError("inconsistent", "{what}", {"what": what})


def inconsistency(what: str, *field: str | int) -> ValidationError:
    """Return an error for a validator over several fields to raise, located at the field to correct.

    Args:
        what: What is wrong.
        field: The path of the field, relative to the validator's part of the declaration.
    """
    return ValidationError.from_exception_data(
        "declaration", [{"type": fault(what), "loc": field, "input": ".".join(map(str, field))}]
    )


def raise_together(*checks: Callable[[], object]) -> None:
    """Run checks that may raise an inconsistency, and raise all inconsistencies as one error."""
    found: list[InitErrorDetails] = []
    for check in checks:
        try:
            check()
        except ValidationError as error:
            found += [
                InitErrorDetails(type=fault(cause["msg"]), loc=cause["loc"], input=cause["input"])
                for cause in error.errors(include_url=False, include_context=False)
            ]
    if found:
        raise ValidationError.from_exception_data("declaration", found)


def matching(pattern: str, otherwise: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Return the annotations of a text field that must match a pattern, also in `dg check yaml`'s schema.

    Args:
        pattern: The pattern of the whole text.
        otherwise: The message for a text that does not match.
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise fault(otherwise)
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


# A class or function of the project.
ObjectName = Annotated[
    str,
    *matching(
        "[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        "it is not written as acme.readers:Orders",
    ),
]


def _column_type(value: str) -> str:
    if value.startswith("decimal(") and ")" not in value:
        # Within braces, YAML ends the value at the comma.
        raise ValueError(f'{value} is cut off at its comma. Write the type in quotes: "decimal(10,2)"')
    try:
        ColumnType.parse(value)
    except ContractError as error:
        raise ValueError(str(error)) from error
    return value


ColumnTypeText = Annotated[str, AfterValidator(_column_type)]


def _partition(value: object) -> str:
    # YAML reads an unquoted 2013-01-01 as a date.
    try:
        return str(Partition(str(value)))
    except ContractError as error:
        raise ValueError(str(error)) from error


# Kept as text, because YAML floats are binary and a bound of 0.1 must stay exact.
def _decimal(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _share(value: object) -> str:
    share = _decimal(value)
    if share is None or not 0 <= share <= 1:
        raise ValueError("it is not a number from 0 to 1")
    return format(share, "f")


def _number(value: object) -> str:
    number = _decimal(value)
    if number is None:
        raise ValueError("it is not a finite number")
    return format(number, "f")


# `dg check yaml` can check patterns without loading the code location.
PartitionText = Annotated[
    str, BeforeValidator(_partition), WithJsonSchema({"type": "string", "pattern": f"^{PARTITION_PATTERN}$"})
]
# Numbers that are kept as text may be written as either.
_NUMBER_OR_TEXT = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
NumberText = Annotated[str, BeforeValidator(_number), _NUMBER_OR_TEXT]
Share = Annotated[str, BeforeValidator(_share), _NUMBER_OR_TEXT]
