"""Pages of a list, with tokens that survive records being added between two pages."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.job_executor.jobs.job_store import Record


def page(
    records: list[Record], *, key: Callable[[Record], str], token: str | None, size: int
) -> tuple[list[Record], str | None]:
    """Return one page and the token of the next.

    Args:
        records: All records in their final order.
        key: A record's unique name.
        token: The caller's token, nothing for the first page.
        size: Records a page.

    Raises:
        ValueError: The token was not given by this function, or its record is gone.
    """
    start = 0
    if token:
        try:
            last = base64.urlsafe_b64decode(token.encode()).decode()
        except (binascii.Error, UnicodeError) as error:
            raise ValueError("the token is malformed") from error
        names = [key(record) for record in records]
        if last not in names:
            raise ValueError("the token is unknown")
        start = names.index(last) + 1
    chosen = records[start : start + size]
    if start + size >= len(records):
        return chosen, None
    return chosen, base64.urlsafe_b64encode(key(chosen[-1]).encode()).decode()
