"""The number of rows that may be refused before the whole batch is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class QuarantineTolerance:
    """The number of refused rows that a model tolerates in a batch.

    By default, this is 1 % of the rows but at most 10, or 0.1 % of the rows if that is more, rounded down. A
    batch always needs at least one accepted row.

    Attributes:
        rows: The declared number of rows; None if the model declares none.
        rate: The declared share of the rows, 0 to 1; None if the model declares none.
    """

    rows: int | None = None
    rate: Decimal | None = None

    def allowed(self, row_count: int) -> int:
        """Return how many of `row_count` rows may be refused. The larger of `rows` and `rate` applies."""
        if self.rows is None and self.rate is None:
            allowed = max(min(row_count // 100, 10), row_count // 1000)
        else:
            allowed = max(self.rows or 0, int(row_count * (self.rate or 0)))
        return max(min(allowed, row_count - 1), 0)

    def fault(self, row_count: int, refused: int) -> str | None:
        """Return why a batch must be refused, as an error message; None if it may be loaded.

        Args:
            row_count: The number of rows in the batch.
            refused: The number of rows that do not fit the model's schema or the stores.
        """
        if not row_count:
            return "The batch has no rows"
        if refused >= row_count:
            return f"None of {row_count} rows was accepted"
        allowed = self.allowed(row_count)
        if refused > allowed:
            return f"{refused} of {row_count} rows were refused, and {allowed} may be"
        return None
