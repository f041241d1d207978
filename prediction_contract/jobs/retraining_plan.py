"""What one retraining works on, decided by its first step and read by all later ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError
from prediction_contract.jobs.pinned_model import PinnedModel


class InvalidRetrainingPlanError(ContractError):
    """The document of a retraining plan has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFeatures:
    """The features of one partition, as the plan's step found or prepared them.

    Attributes:
        partition: The partition.
        prefix: The folder of one run's features.
        digest: Of the names and contents of its files.
    """

    partition: str
    prefix: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingPlan:
    """The plan of one execution.

    Attributes:
        model: The model's name.
        execution_id: The pipeline execution.
        attempt: Which attempt at the same range and code it is, counting from 1.
        claimed_by: The execution that works on this range, code and attempt: this one, or an earlier one,
            which this one leaves the work to.
        cause: What started it: `schedule`, `drift`, `accuracy` or `request`.
        requested_by: Who asked.
        code_version: The version of the code that runs.
        inputs_key: The document of the model's inputs.
        schema_key: The document of the predictions' schema.
        first_partition: The first partition to learn from.
        last_partition: The last partition to learn from.
        first_held_out: The first partition to judge on; None for a model without metrics.
        last_held_out: The last partition to judge on; None for a model without metrics.
        features: Of every partition from the first to learn from on, in order, and of the later ones that
            tell outcomes; empty where another execution does the work.
        champion: The champion that the candidate is judged against; None if there is none.
        champion_sequence: The champion pointer's sequence as it was read; 0 if there is none.
        champion_trained_until: The last partition that the champion learned from; None if nobody knows.
        unbeaten: How many of the newest candidates in a row did not beat every naive baseline.
    """

    model: str
    execution_id: str
    attempt: int
    claimed_by: str
    cause: str
    requested_by: str
    code_version: str
    inputs_key: str
    schema_key: str
    first_partition: str
    last_partition: str
    first_held_out: str | None
    last_held_out: str | None
    features: tuple[PlannedFeatures, ...]
    champion: PinnedModel | None = None
    champion_sequence: int = 0
    champion_trained_until: str | None = None
    unbeaten: int = 0

    @property
    def has_work(self) -> bool:
        """Whether this execution is the one that trains."""
        return self.claimed_by == self.execution_id

    def to_bytes(self) -> bytes:
        """Return the document; its `proceed`, 1 or 0, tells the pipeline whether there is work."""
        document = {**asdict(self), "proceed": int(self.has_work)}
        return json.dumps(document, sort_keys=True, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the plan of a document.

        Raises:
            InvalidRetrainingPlanError: It has another form.
        """
        try:
            document = json.loads(content)
            del document["proceed"]
            champion = document["champion"]
            return cls(
                **{
                    **document,
                    "features": tuple(PlannedFeatures(**each) for each in document["features"]),
                    "champion": None if champion is None else PinnedModel(**champion),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidRetrainingPlanError(
                f"The retraining plan cannot be read: {error}",
                remedy="Start a new retraining: this one was planned by another version of the code",
            ) from error
