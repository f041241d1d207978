"""What all parts of a declaration share: strictness, and texts that YAML would read as something else."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import dagster as dg
from pydantic import BeforeValidator, ConfigDict

from prediction_contract.batch import Partition
from prediction_contract.errors import ContractError


def _day(value: object) -> str:
    # YAML reads an unquoted 2013-01-01 as a date.
    try:
        partition = Partition(str(value))
    except ContractError as error:
        raise ValueError(str(error)) from error
    return str(partition)


def _share(value: object) -> str:
    # As text, because a YAML float is a binary one; the contract compares decimals.
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        share = Decimal("NaN")
    if share.is_nan() or not 0 <= share <= 1:
        raise ValueError("it is no number from 0 to 1")
    return format(share, "f")


PartitionText = Annotated[str, BeforeValidator(_day)]
Share = Annotated[str, BeforeValidator(_share)]


class DeclaredModel(dg.Model, dg.Resolvable):
    """Shared by all parts of a declaration: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
