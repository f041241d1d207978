"""The plan of one retraining. The first step of the pipeline writes it, and all later steps read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from prediction_contract.errors import ContractError
from prediction_contract.jobs.pinned_model import PinnedModel


class InvalidRetrainingPlanError(ContractError):
    """The document of a retraining plan is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFeatures:
    """The features of one partition, found or prepared by the planning step.

    Attributes:
        partition: The partition.
        prefix: The prefix of one run's features.
        digest: The digest of the names and contents of the files.
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
        attempt: The number of the attempt at the same range and code, counting from 1.
        claimed_by: The execution that does this work: this one, or an earlier one for the same range, code
            and attempt.
        cause: The cause of the retraining: `schedule`, `drift`, `accuracy` or `request`.
        requested_by: The person or run that asked for it.
        code_version: The version of the code that runs.
        inputs_key: The S3 key of the document of the model's inputs.
        schema_key: The S3 key of the document of the predictions' schema.
        first_partition: The first partition to train on.
        last_partition: The last partition to train on.
        first_held_out: The first partition to judge on; None for a model without metrics.
        last_held_out: The last partition to judge on; None for a model without metrics.
        features: The features of all partitions from the first to train on to the last to judge on, in order,
            and of up to two later ones, which have their outcomes; empty if another execution does the work.
        champion: The champion with which the candidate is compared; None if there is none.
        champion_sequence: The sequence of the champion pointer as read; 0 if there is none.
        champion_trained_until: The last partition of the champion's training data; None if unknown.
        candidates_below_baselines: How many of the newest candidates in a row were no better than the naive
            baselines.
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
    candidates_below_baselines: int = 0

    @property
    def has_work(self) -> bool:
        """Whether this execution does the work."""
        return self.claimed_by == self.execution_id

    def to_bytes(self) -> bytes:
        """Return the document. Its `proceed` is 1 if this execution does the work and 0 otherwise."""
        document = {**asdict(self), "proceed": int(self.has_work)}
        return json.dumps(document, sort_keys=True, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the plan in a document.

        Raises:
            InvalidRetrainingPlanError: The document is invalid.
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
                remedy="Start a new retraining, because another version of the code planned this one",
            ) from error
