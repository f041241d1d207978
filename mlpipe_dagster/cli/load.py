"""`mlpipe load`: load, check and publish the batch of a done file in a Dagster run of this process."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command
from mlpipe_dagster.done_files.registration import DoneFile, register_done_file
from model_declaration.project import Project
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import DoneKey, done_key, parse_done_key

if TYPE_CHECKING:
    import dagster as dg
    from dagster_shared.error import SerializableErrorInfo

    from mlpipe_dagster.resources.platform import Platform

_SCHEME = "s3://"
_LONGEST_REASON = 2000
# What Dagster puts around the error of a step.
_WRAPPERS = {"DagsterExecutionStepExecutionError", "RetryRequestedFromPolicy"}


class LoadRunError(ContractError):
    """The run that loads a batch failed, or cannot be started."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    loading = add_command(commands, "load", load)
    loading.add_argument(
        "manifest",
        help="the done file: s3://<bucket>/done/<date>/<model>/<batch id>.json, or its key alone, "
        "or the id of a batch that the registry knows",
    )
    loading.add_argument("--again", action="store_true", help="load it though it is loaded")


def load(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Load, check and publish the batch of a done file, however old, in a Dagster run of this process."""
    named = asked_done_file(options.manifest, access)
    access.require_declared(named.model)
    from mlpipe_dagster.resources.platform import Platform  # noqa: PLC0415  # imports Dagster

    found = run_load(Platform(), named, access.project, again=options.again)
    return CommandResult(document=found, sections=[Fields(members=found)])


def asked_done_file(text: str, access: DeploymentAccess) -> DoneKey:
    """Return what the done file's key says that a batch id, a key or an address names.

    Args:
        text: One of them.
        access: The deployment.

    Raises:
        InvalidNameError: It is none of them, or lies in another bucket.
        UnknownBatchError: The registry does not know the batch.
    """
    try:
        batch_id = BatchId(text)
    except InvalidNameError:
        return named_done_file(text, access.settings.data_bucket)
    return parse_done_key(done_key(access.named_batch([batch_id]).model, batch_id))


def named_done_file(text: str, bucket: str) -> DoneKey:
    """Return what a done file's key or address says.

    Args:
        text: The key, or `s3://<bucket>/<key>`.
        bucket: The deployment's bucket.

    Raises:
        InvalidNameError: It is no done file, or lies in another bucket.
    """
    if not text.startswith(_SCHEME):
        return parse_done_key(text)
    named_bucket, _, key = text.removeprefix(_SCHEME).partition("/")
    if named_bucket != bucket:
        raise InvalidNameError(
            f"{text[:200]!r} lies in bucket {named_bucket[:80]!r}, and this deployment's is {bucket}",
            remedy="Name a done file of this deployment, or take the environment of the other",
        )
    return parse_done_key(key)


def run_load(
    platform: Platform,
    named: DoneKey,
    project: Project,
    *,
    again: bool,
    definitions: dg.Definitions | None = None,
) -> dict[str, Any]:
    """Register a batch by its done file, then load, check and publish it; return what came of it.

    Args:
        platform: Where.
        named: What the done file's key says.
        project: Whose batch it is.
        again: Load the batch though it is loaded.
        definitions: The code location; that of the project by default.

    Raises:
        ContractError: The done file is missing or refused, or the run failed.
    """
    # Dagster and the definitions take a second, which the other commands shall not pay.
    from mlpipe_dagster.done_files.load_requests import load_request, load_run_config, refuse_unknown_target  # noqa: PLC0415
    from mlpipe_dagster.pipeline.asset_names import load_job_name  # noqa: PLC0415

    if definitions is None:
        from mlpipe_dagster.definitions import definitions_of  # noqa: PLC0415

        definitions = definitions_of(project)
    model, batch_id = named.model, named.batch_id
    known = platform.registry.batch(model, batch_id) if again else None
    above_attempt = known.load_attempts if known else 0
    job = definitions.resolve_job_def(load_job_name(model))
    assert job.partitions_def is not None, f"{job.name} has no partitions"  # noqa: S101  # a load is of one
    # A person asks for it: a batch that was refused is tried again, as if it were delivered once more.
    done_file = register_done_file(
        platform.bucket, platform.registry, done_key(model, batch_id), redelivered=True
    )
    manifest = _accepted(refuse_unknown_target(done_file, platform.registry, {model: job.partitions_def}))
    request = load_request(manifest)
    with _instance() as instance:
        result = job.execute_in_process(
            run_config=load_run_config(model, batch_id, above_attempt=above_attempt),
            partition_key=request.partition_key,
            tags=dict(request.tags),
            instance=instance,
            raise_on_error=False,
        )
    if not result.success:
        raise LoadRunError(
            f"Run {result.run_id} failed: {' '.join(failure_words(result))[:_LONGEST_REASON]}",
            remedy="See the run in Dagster's UI",
            model=model,
            batch_id=batch_id,
        )
    record = platform.registry.batch(model, batch_id)
    return {
        "run_id": result.run_id,
        "batch_id": str(batch_id),
        "load_state": str(record.load_state) if record else None,
        "release_state": str(record.release_state) if record else None,
    }


def failure_words(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return what each failed step of a run failed of, as one line in the error's own words."""
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return [_said(_cause(error)) for error in errors if error is not None]


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Return what a step failed of, below what Dagster says of steps and retries."""
    while error.cause is not None and error.cls_name in _WRAPPERS:
        error = error.cause
    return error


def _said(error: SerializableErrorInfo) -> str:
    """Return an error's own words, without the class that Dagster names before them."""
    # Each line of a job's log, which the words of a failed job end with, stays apart from the next.
    words = error.message.partition(f"{error.cls_name}: ")[2] or error.message
    return " | ".join(line for line in words.splitlines() if line.strip())


def _accepted(done_file: DoneFile) -> Manifest:
    if done_file.manifest is None or done_file.refusal is not None:
        raise LoadRunError(
            f"The done file {done_file.key} is refused: {done_file.refusal}",
            remedy="Correct it and deliver it again",
            model=done_file.name.model if done_file.name else None,
            batch_id=done_file.name.batch_id if done_file.name else None,
        )
    return done_file.manifest


@contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    if not os.environ.get("DAGSTER_HOME"):
        raise LoadRunError(
            "DAGSTER_HOME is not set, so nobody would see the run",
            remedy="Set it to the folder of dagster.yaml; `mlpipe up` writes it for the local stack",
        )
    import dagster as dg  # noqa: PLC0415  # takes most of a second

    with dg.DagsterInstance.get() as instance:
        yield instance
