"""The partitions that a retraining trains on and judges on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import Partition


class RetrainingRangeError(ContractError):
    """There are no partitions to train on, or none to judge on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRange:
    """The partitions of one retraining. All bounds are inclusive.

    Attributes:
        first: The first partition to train on.
        last: The last partition to train on.
        first_held_out: The first partition to judge on; None for a model without metrics.
        last_held_out: The last partition to judge on; None for a model without metrics.
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
            newest: The last partition of the range.
            model: The model's name.
            start: The model's first partition.
            window: The maximum number of partitions to train on.
            held_out: The number of later partitions to judge on.
            gap: The number of partitions to leave out between the two.
            is_judged: Whether any partitions are held out.

        Raises:
            RetrainingRangeError: No partition is left to train on.
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
        """The last partition of the range."""
        return Partition(self.last_held_out or self.last)

    def digest(self, code_version: str, attempt: int) -> str:
        """Return the digest of this range, a code version and an attempt."""
        named = json.dumps([asdict(self), code_version, attempt], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the range in a document.

        Raises:
            RetrainingRangeError: The document is invalid.
        """
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise RetrainingRangeError(
                f"The range of a retraining cannot be read: {error}", remedy="Start a new retraining"
            ) from error
