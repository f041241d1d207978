"""Which partitions a retraining learns from and judges on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import Partition


class RetrainingRangeError(ContractError):
    """There are no partitions to learn from, or none to judge on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRange:
    """The partitions of one retraining, all included.

    Attributes:
        first: The first one to learn from.
        last: The last one to learn from.
        first_held_out: The first one to judge on; None for a model without metrics.
        last_held_out: The last one to judge on; None for a model without metrics.
    """

    first: str
    last: str
    first_held_out: str | None
    last_held_out: str | None

    @classmethod
    def up_to(
        cls,
        newest: Partition,
        *,
        model: str,
        start: Partition,
        window: int,
        held_out: int,
        gap: int,
        is_judged: bool,
    ) -> Self:
        """Return the range that ends with a partition.

        Args:
            newest: The newest partition of all.
            model: The model's name.
            start: The model's first partition.
            window: How many partitions to learn from at most.
            held_out: How many later partitions to judge on.
            gap: How many partitions between the two are left out.
            is_judged: Whether partitions are held out at all.

        Raises:
            RetrainingRangeError: No partition is left to learn from.
        """
        first_held_out = newest.earlier(held_out - 1) if is_judged else None
        last = newest if first_held_out is None else first_held_out.earlier(1 + gap)
        if last < start:
            raise RetrainingRangeError(
                f"No partition is left to learn from: partitions begin with {start}, and of those up to "
                f"{newest} {held_out} are held out after a gap of {gap}",
                remedy="Retrain once there are more partitions, or declare a smaller `held_out` in defs.yaml",
                model=model,
            )
        return cls(
            first=str(max(start, last.earlier(window - 1))),
            last=str(last),
            first_held_out=None if first_held_out is None else str(first_held_out),
            last_held_out=None if first_held_out is None else str(newest),
        )

    @property
    def newest(self) -> Partition:
        """The newest of all."""
        return Partition(self.last_held_out or self.last)

    def digest(self, code_version: str, attempt: int) -> str:
        """Return what names an attempt at these partitions with a code."""
        named = json.dumps([asdict(self), code_version, attempt], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the range of a document.

        Raises:
            RetrainingRangeError: It has another form.
        """
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise RetrainingRangeError(
                f"The range of a retraining cannot be read: {error}", remedy="Start a new retraining"
            ) from error
