"""What all parts of a declaration share: strictness, faults by field, and values that are kept as text."""

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
    """Shared by all parts of a declaration: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(what: str) -> PydanticCustomError:
    """Return an error for a validator to raise, shown in these words alone."""
    return PydanticCustomError("inconsistent", "{what}", {"what": what})


def inconsistency(what: str, *field: str | int) -> ValidationError:
    """Return the error for a validator over several fields to raise; it names the one to correct.

    Args:
        what: What is wrong.
        field: The path of the field, as seen from the validator's own part of the declaration.
    """
    return ValidationError.from_exception_data(
        "declaration", [{"type": fault(what), "loc": field, "input": ".".join(map(str, field))}]
    )


def raise_together(*checks: Callable[[], object]) -> None:
    """Run checks that may raise an inconsistency each, and raise one error of all that did."""
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
    """Return what makes a text one of a form, for an annotation; its schema says so to `dg check yaml`.

    Args:
        pattern: Of the whole text.
        otherwise: What is told of another text.
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise fault(otherwise)
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


# A class or function of the project's.
ObjectName = Annotated[
    str,
    *matching(
        "[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        "it is not written as acme.readers:Orders",
    ),
]


def _column_type(value: str) -> str:
    if value.startswith("decimal(") and ")" not in value:
        # In braces, YAML takes the comma for the end of the value.
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


# As text, because a YAML float is a binary one, and a bound of 0.1 is meant as it is written.
def _decimal(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _share(value: object) -> str:
    share = _decimal(value)
    if share is None or not 0 <= share <= 1:
        raise ValueError("it is no number from 0 to 1")
    return format(share, "f")


def _number(value: object) -> str:
    number = _decimal(value)
    if number is None:
        raise ValueError("it is no finite number")
    return format(number, "f")


# A pattern is what `dg check yaml` can judge without loading the code location.
PartitionText = Annotated[
    str, BeforeValidator(_partition), WithJsonSchema({"type": "string", "pattern": f"^{PARTITION_PATTERN}$"})
]
# A number that is kept as text may be written as either.
_NUMBER_OR_TEXT = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
NumberText = Annotated[str, BeforeValidator(_number), _NUMBER_OR_TEXT]
Share = Annotated[str, BeforeValidator(_share), _NUMBER_OR_TEXT]
