"""The processing job that scores a batch on all cores and hosts, then commits it and writes the manifest.

The output does not depend on who starts the job or on the number of hosts. The job may be killed at any
point. When it runs again, it scores only the missing shares. A later attempt gives the same result. A job
that finds the batch done adopts it and stops.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    # Each process reads this when it imports Arrow. With jemalloc, wide chunks need a tenth less memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")

import boto3

from prediction_batches.delivery.batch import open_batch
from prediction_batches.delivery.commit import Provenance, commit_batch
from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import AWS_CONFIG, ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.manifests.manifest import Inputs, Manifest, Producer
from prediction_contract.naming.s3_layout import json_attempt_prefix
from prediction_contract.registry.table import RegistryTable
from sagemaker_scripts.batches.batch_attempt import BatchAttempt, attempt_of
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import DagsterReport, report_to_dagster
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.scoring.host_shares import HostShares
from sagemaker_scripts.scoring.hosts import Hosts, HostWatch
from sagemaker_scripts.scoring.pinning import package_of, pinned_source
from sagemaker_scripts.scoring.planning import ScoringRegistry, make_plan, planned_features
from sagemaker_scripts.scoring.score_progress import ScoreProgress
from sagemaker_scripts.scoring.scoring_plan import find_or_make_plan, wait_for_plan
from sagemaker_scripts.scoring.scoring_processes import ended_by_sigterm
from sagemaker_scripts.scoring.share_scoring import ShareWork

_LOG = logging.getLogger("score_batch")


class ScoredBatch(NamedTuple):
    """A done batch.

    Attributes:
        manifest: The batch's manifest.
        adopted: Whether the manifest already existed.
    """

    manifest: Manifest
    adopted: bool


def score(
    arguments: ScoreArguments,
    attempt: BatchAttempt,
    store: ObjectStore,
    registry: ScoringRegistry,
    producer: Producer,
    *,
    hosts: Hosts,
    report: DagsterReport,
) -> ScoredBatch | None:
    """Score this host's shares of a batch; the first host also commits the batch and returns it.

    Other hosts do not wait for the commit. They return None, or the batch if it is done already.

    Args:
        arguments: The job's arguments.
        attempt: The attempt at the batch.
        store: The bucket.
        registry: The registry, read for earlier batches and the model.
        producer: The batch's producer, for the manifest.
        hosts: The job's hosts.
        report: The report of progress to Dagster.

    Raises:
        ContractError: An input is missing or invalid, too many rows do not fit the schema, another host
            failed, a later attempt has committed the batch, or its done file belongs to another batch.
    """
    model, partition, batch_id = arguments.model, attempt.partition, attempt.batch_id
    find_done = partial(done_manifest, store, model, batch_id, partition=partition)
    done = find_done()
    if done is not None:
        return ScoredBatch(done, adopted=True)
    schema, cleaning = read_columns(store, arguments.schema_key)
    inputs = read_inputs(store, arguments)
    prefix = json_attempt_prefix(model, partition, batch_id, attempt.attempt)
    watch = HostWatch(store, prefix, hosts) if hosts.others else None
    progress = ScoreProgress(hosts.own, watch, report.message if hosts.is_first else None)
    with TemporaryDirectory(prefix="scoring-") as folder:
        with progress.step("plan", 0):
            if watch is None or hosts.is_first:
                settings = {"schema": schema, "cleaning": cleaning, "registry": registry}
                make = partial(make_plan, arguments, attempt, store, inputs, folder=Path(folder), **settings)
                plan = find_or_make_plan(store, prefix, make)
            else:

                def is_done() -> bool:
                    watch.require_first()
                    return find_done() is not None

                plan = wait_for_plan(store, prefix, hosts.first, is_done)
        if plan is None:
            done = find_done()
            return None if done is None else ScoredBatch(done, adopted=True)
        plan.require_for(arguments)
        batch = open_batch(
            bucket=store.bucket,
            model=model,
            partition=partition,
            schema=schema,
            batch_id=batch_id,
            attempt=attempt.attempt,
            has_unique_keys=True,
        )
        work = ShareWork(arguments, attempt, batch, schema, cleaning, plan, frozenset(), Path(folder))
        HostShares(work, store, hosts, watch, progress, is_done=lambda: find_done() is not None).write()
    if not hosts.is_first:
        progress.end()
        return None
    done = find_done()
    if done is not None:
        return ScoredBatch(done, adopted=True)
    with progress.step("commit", plan.rows):
        receipts = batch.receipts([share.name for share in plan.shares], store)
        features = planned_features(plan, arguments, attempt, store)
        provenance = Provenance(
            model_version=plan.model.digest,
            code_version=arguments.code_version,
            inputs=Inputs(features=features.inputs, model_artifact=pinned_source(plan.model)),
            previous_batch_id=None if plan.previous is None else plan.previous.batch_id,
            producer=producer,
            model_package=package_of(plan.model),
        )
        committed = commit_batch(batch, receipts, provenance, tolerance=arguments.tolerance, store=store)
    return ScoredBatch(*committed)


@contextmanager
def _named_in_errors(model: str, attempt: BatchAttempt) -> Iterator[None]:
    """Add the batch's name to any error."""
    try:
        yield
    except Exception as error:
        named = f"attempt {attempt.attempt} at batch {attempt.batch_id} of {model} for {attempt.partition}"
        error.add_note(f"This error ended {named}.")
        raise


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Score the batch requested on the command line; return a summary of the done file."""
    arguments = ScoreArguments.parse(argv)
    job = container.processing_job()
    store = ObjectStore.of_job(arguments.bucket)
    attempt, hosts = attempt_of(arguments, job, store), Hosts.of_job(job)
    _LOG.info("batch %s of %s, attempt %d", attempt.batch_id, attempt.partition, attempt.attempt)
    registry = RegistryTable(boto3.client("dynamodb", config=AWS_CONFIG), arguments.registry_table)
    producer = Producer(job.name, job.arn) if job else Producer()
    with (
        ended_by_sigterm(),
        _named_in_errors(arguments.model, attempt),
        _reporting(store, hosts) as report,
    ):
        scored = score(arguments, attempt, store, registry, producer, hosts=hosts, report=report)
        if scored is None:
            return {
                "model": str(arguments.model),
                "batch_id": str(attempt.batch_id),
                "partition": str(attempt.partition),
                "attempt": attempt.attempt,
                "host": hosts.own,
            }
        manifest = scored.manifest
        result = {
            "model": str(manifest.model),
            "batch_id": str(manifest.batch_id),
            "partition": str(manifest.partition),
            "attempt": manifest.attempt,
            "adopted": scored.adopted,
            "manifest_key": manifest.key,
            "manifest_digest": manifest.digest,
            "rows": manifest.row_count,
            "bytes": sum(part.bytes for part in manifest.json_parts),
            "checksum": manifest.checksum,
            "delta_version": manifest.delta.version,
            "model_version": manifest.model_version,
            "model_package_version": manifest.model_package and manifest.model_package.version,
            "previous_batch_id": manifest.previous_batch_id,
        }
        report.result(result)
    return result


@contextmanager
def _reporting(store: ObjectStore, hosts: Hosts) -> Iterator[DagsterReport]:
    """Open the report to Dagster; only the first host sends it."""
    if not hosts.is_first:
        yield DagsterReport()
        return
    with report_to_dagster(store, _LOG) as report:
        yield report


if __name__ == "__main__":
    sys.exit(run_script(main))
