"""Determines the batch of a score job, and the number of the attempt."""

from __future__ import annotations

import json
from dataclasses import dataclass

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError, JobArgumentsError
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.naming.batch import BatchId, Partition, mint_batch_id
from prediction_contract.naming.s3_layout import features_prefix
from sagemaker_scripts.container import ProcessingJob

_MAX_ATTEMPTS = 50


class TooManyAttemptsError(ContractError):
    """A run has reached the limit of attempts at its batch."""


@dataclass(frozen=True)
class BatchAttempt:
    """One attempt at one batch.

    Attributes:
        partition: The partition to score.
        batch_id: The batch.
        attempt: The attempt, counting from 1.
        features_prefix: The prefix of one run's features; None for the partition's newest features.
    """

    partition: Partition
    batch_id: str
    attempt: int
    features_prefix: str | None


def attempt_of(arguments: ScoreArguments, job: ProcessingJob | None, store: ObjectStore) -> BatchAttempt:
    """Return the attempt at the batch in the arguments, at the run's batch, or at a new batch.

    Raises:
        JobArgumentsError: The due partition is not one of the model's. Or a batch id is needed, but cannot be
            minted: there is no job, or a job without a run has several hosts.
        TooManyAttemptsError: The run has reached the limit of attempts.
    """
    partition = arguments.due_partition()
    if arguments.batch_id is not None:
        return BatchAttempt(partition, arguments.batch_id, arguments.attempt, arguments.features_prefix)
    if job is None:
        raise JobArgumentsError(
            "No batch_id was passed, and none can be minted outside a SageMaker job",
            remedy="Pass --batch_id",
            model=arguments.model,
        )
    if arguments.run_id is not None:
        return _attempt_of_run(arguments, partition, arguments.run_id, job, store)
    if len(job.hosts) > 1:
        raise JobArgumentsError(
            f"Neither batch_id nor run_id was passed to the {len(job.hosts)} hosts of {job.identity}, so "
            "each would mint its own batch",
            remedy="Pass --batch_id or --run_id, or start the job with InstanceCount 1",
            model=arguments.model,
        )
    batch_id = mint_batch_id(arguments.model, partition, job.identity, job.created_at)
    return BatchAttempt(partition, batch_id, arguments.attempt, arguments.features_prefix)


def _attempt_of_run(
    arguments: ScoreArguments, partition: Partition, run_id: str, job: ProcessingJob, store: ObjectStore
) -> BatchAttempt:
    """Return the job's attempt, or claim the run's next one; the first job mints the batch id for all.

    When a pipeline repeats a step, the new job has another name and no reference to the earlier one. So each
    attempt is recorded beside the run's features, once, by the first host that claims it. All hosts of a job
    share its attempt, and so does a host that is started again.
    """
    prefix = features_prefix(arguments.model, partition, run_id)
    first = f"{prefix}score-1.json"
    minted = mint_batch_id(arguments.model, partition, run_id, job.created_at)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        batch_id = minted if attempt == 1 else BatchId(json.loads(store.get(first))["batch_id"])
        key, wanted = f"{prefix}score-{attempt}.json", {"batch_id": batch_id, "job": job.identity}
        is_new = store.put_new(key, json.dumps(wanted).encode())
        taken = wanted if is_new else json.loads(store.get(key))
        if taken["job"] == job.identity:
            return BatchAttempt(partition, BatchId(taken["batch_id"]), attempt, prefix)
    raise TooManyAttemptsError(
        f"Run {run_id} has made {_MAX_ATTEMPTS} attempts at its batch, the most allowed",
        remedy="Find the cause in the attempts' logs, then start a new run",
        model=arguments.model,
    )
