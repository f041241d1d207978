"""The plan of one attempt at a batch: its inputs and shares, decided once and followed by all hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Self

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.naming.s3_layout import PLAN_NAME
from sagemaker_scripts.scoring.shares import Share

# In bytes; a plan with a thousand shares has about a hundred thousand.
_LARGEST_PLAN = 64 * 1024 * 1024
_POLL_SECONDS = 1.0
# Hosts of one job start minutes apart, because each pulls its image separately.
PLAN_PATIENCE_SECONDS = 900.0


class ScoringPlanError(ContractError):
    """The plan is missing, or is not for this job's arguments or data."""


@dataclass(frozen=True, kw_only=True)
class PlannedPrevious:
    """The previous batch at the time of planning.

    Attributes:
        batch_id: The batch.
        manifest_digest: The digest of its manifest.
        cleaning: The cleaning rules of its load, as written by `Cleaning.to_argument`; None without cleaning.
    """

    batch_id: str
    manifest_digest: str
    cleaning: str | None


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """The plan of one attempt.

    Attributes:
        schema_key: The key of the predictions' schema.
        inputs_key: The key of the model's inputs.
        code_version: The version of the scoring code.
        features_prefix: The prefix of the features.
        features_digest: The digest of the names and digests of the features' files.
        model: The trained model, which all attempts at the batch use.
        previous: The previous batch; None if there is none.
        rows: The number of rows of features.
        chunk_rows: The maximum number of rows that `predict` receives at once.
        buckets: The number of buckets of keys; 0 if the features are read in their order.
        shares: The pieces of the work, ordered by name.
    """

    schema_key: str
    inputs_key: str
    code_version: str
    features_prefix: str
    features_digest: str
    model: PinnedModel
    previous: PlannedPrevious | None
    rows: int
    chunk_rows: int
    buckets: int
    shares: tuple[Share, ...]

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        shares = [share._asdict() for share in self.shares]
        return json.dumps({**asdict(self), "shares": shares}, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse a plan from its JSON.

        Raises:
            ScoringPlanError: The document is malformed.
        """
        try:
            document = json.loads(content)
            previous = document["previous"]
            return cls(
                **{
                    **document,
                    "model": PinnedModel(**document["model"]),
                    "previous": None if previous is None else PlannedPrevious(**previous),
                    "shares": tuple(map(Share.of_document, document["shares"])),
                }
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ScoringPlanError(
                f"The plan cannot be read: {error}",
                remedy="Start the next attempt, because another version of the code planned this one",
            ) from error

    def require_for(self, arguments: ScoreArguments) -> None:
        """Refuse a plan that was made for other arguments.

        Raises:
            ScoringPlanError: Schema, inputs or code differ.
        """
        for name in ("schema_key", "inputs_key", "code_version"):
            planned, wanted = getattr(self, name), getattr(arguments, name)
            if planned != wanted:
                raise ScoringPlanError(
                    f"The attempt was planned with {name} {planned}, but this job has {wanted}",
                    remedy="Start the next attempt",
                )


def find_or_make_plan(store: ObjectStore, prefix: str, make: Callable[[], ScoringPlan]) -> ScoringPlan:
    """Return the existing plan, or make and write one.

    Args:
        store: The bucket.
        prefix: The attempt's prefix.
        make: Makes a plan.
    """
    key = f"{prefix}{PLAN_NAME}"
    content = store.find(key, largest=_LARGEST_PLAN)
    if content is None:
        made = make().to_bytes()
        content = made if store.put_new(key, made) else store.get(key, largest=_LARGEST_PLAN)
    return ScoringPlan.parse(content)


def wait_for_plan(
    store: ObjectStore, prefix: str, first_host: str, is_done: Callable[[], bool]
) -> ScoringPlan | None:
    """Wait for the first host's plan and return it; None once the batch is done.

    Args:
        store: The bucket.
        prefix: The attempt's prefix.
        first_host: The first host's name.
        is_done: Returns whether the batch has a manifest; raises an error once the first host has failed.

    Raises:
        ScoringPlanError: The plan did not appear in time.
    """
    key = f"{prefix}{PLAN_NAME}"
    deadline = time.monotonic() + PLAN_PATIENCE_SECONDS
    while (content := store.find(key, largest=_LARGEST_PLAN)) is None:
        if is_done():
            return None
        if time.monotonic() > deadline:
            raise ScoringPlanError(
                f"The first host, {first_host}, did not write {key} within {PLAN_PATIENCE_SECONDS:.0f} s",
                remedy=f"Read the log of {first_host}, then start the next attempt",
            )
        time.sleep(_POLL_SECONDS)
    return ScoringPlan.parse(content)
