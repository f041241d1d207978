"""The plan of one attempt at a batch: what it is made of, and its shares; decided once, followed by all."""

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

# In bytes; a plan of a thousand shares has some hundred thousand.
_LARGEST_PLAN = 64 * 1024 * 1024
_SECONDS_BETWEEN_LOOKS = 1.0
# Hosts of one job start minutes apart: each fetches its image by itself.
PLAN_PATIENCE_SECONDS = 900.0


class ScoringPlanError(ContractError):
    """There is no plan, or it is not what this job was to score."""


@dataclass(frozen=True, kw_only=True)
class PlannedPrevious:
    """The previous batch, as the plan's host found it.

    Attributes:
        batch_id: The batch.
        manifest_digest: Its manifest's.
        cleaning: How its load cleaned it, as `Cleaning.to_argument` writes it; None for not at all.
    """

    batch_id: str
    manifest_digest: str
    cleaning: str | None


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """The plan of one attempt.

    Attributes:
        schema_key: The document of the predictions' schema.
        inputs_key: The document of the model's inputs.
        code_version: The version of the code that scores.
        features_prefix: The folder of the features.
        features_digest: Of their files' names and digests.
        model: The trained model, which all attempts at the batch use.
        previous: The previous batch; None if there is none.
        rows: The rows of features.
        chunk_rows: How many of them `predict` receives at once at most.
        buckets: Into how many buckets of keys they are divided; 0 where they are read in their order.
        shares: The pieces of the work, by name.
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
        """Return the plan of its JSON.

        Raises:
            ScoringPlanError: It has another form.
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
                remedy="Start the next attempt: this one was planned by another version of the code",
            ) from error

    def require_for(self, arguments: ScoreArguments) -> None:
        """Refuse to go on with what was planned for other arguments.

        Raises:
            ScoringPlanError: Schema, inputs or code are others.
        """
        for name in ("schema_key", "inputs_key", "code_version"):
            planned, wanted = getattr(self, name), getattr(arguments, name)
            if planned != wanted:
                raise ScoringPlanError(
                    f"The attempt was planned with the {name} {planned}, and this job has {wanted}",
                    remedy="Start the next attempt",
                )


def settled_plan(store: ObjectStore, prefix: str, make: Callable[[], ScoringPlan]) -> ScoringPlan:
    """Return the plan that is there, or else make one and put it there.

    Args:
        store: The bucket.
        prefix: The attempt's.
        make: Makes one.
    """
    key = f"{prefix}{PLAN_NAME}"
    content = store.find(key, largest=_LARGEST_PLAN)
    if content is None:
        made = make().to_bytes()
        content = made if store.put_new(key, made) else store.get(key, largest=_LARGEST_PLAN)
    return ScoringPlan.parse(content)


def awaited_plan(
    store: ObjectStore, prefix: str, first_host: str, is_done: Callable[[], bool]
) -> ScoringPlan | None:
    """Return the plan once the first host has put it there; None once the batch is done.

    Args:
        store: The bucket.
        prefix: The attempt's.
        first_host: Its name.
        is_done: Tells whether the batch has a manifest; raises an error once the first host has failed.

    Raises:
        ScoringPlanError: It did not come in time.
    """
    key = f"{prefix}{PLAN_NAME}"
    deadline = time.monotonic() + PLAN_PATIENCE_SECONDS
    while (content := store.find(key, largest=_LARGEST_PLAN)) is None:
        if is_done():
            return None
        if time.monotonic() > deadline:
            raise ScoringPlanError(
                f"The first host, {first_host}, put no {key} within {PLAN_PATIENCE_SECONDS:.0f} s",
                remedy=f"Look into the log of {first_host}, then start the next attempt",
            )
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return ScoringPlan.parse(content)
