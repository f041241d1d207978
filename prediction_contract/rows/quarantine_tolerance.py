"""How many rows of a batch may be refused before the whole batch is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class QuarantineTolerance:
    """How many refused rows a model tolerates in a batch.

    Where a model declares neither number nor share, a batch may lose no row below 100 rows, 1 % but at most
    10 rows up to 10,000 rows, and 0.1 % above. A batch always needs at least one accepted row.

    Attributes:
        rows: The declared number of rows; None if the model declares none.
        rate: The declared share of the rows, 0 to 1; None if the model declares none.
    """

    rows: int | None = None
    rate: Decimal | None = None

    def allowed(self, row_count: int) -> int:
        """Return how many of `row_count` rows may be refused: the larger of number and share."""
        if self.rows is None and self.rate is None:
            allowed = max(min(row_count // 100, 10), row_count // 1000)
        else:
            allowed = max(self.rows or 0, int(row_count * (self.rate or 0)))
        return max(min(allowed, row_count - 1), 0)

    def fault(self, row_count: int, refused: int) -> str | None:
        """Return why a batch must be refused, as a clause for an error message; None if it may be loaded.

        Args:
            row_count: All rows of the batch.
            refused: Those of them that do not fit the model's schema or the stores.
        """
        if not row_count:
            return "The batch has no rows"
        if refused >= row_count:
            return f"None of {row_count} rows was accepted"
        allowed = self.allowed(row_count)
        if refused > allowed:
            return f"{refused} of {row_count} rows were refused, and {allowed} may be"
        return None
