"""`mlpipe load`: loads, checks and publishes a done file's batch in a Dagster run of this process."""

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
# The errors that Dagster wraps around a step's error.
_WRAPPERS = {"DagsterExecutionStepExecutionError", "RetryRequestedFromPolicy"}


class LoadRunError(ContractError):
    """The run that loads a batch failed, or could not start."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    loading = add_command(commands, "load", load)
    loading.add_argument(
        "manifest",
        help="the done file: s3://<bucket>/done/<date>/<model>/<batch id>.json, or only its key, "
        "or the id of a registered batch",
    )
    loading.add_argument("--again", action="store_true", help="load it even if it is already loaded")


def load(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Load, check and publish the batch of a done file, however old, in a Dagster run of this process."""
    named = asked_done_file(options.manifest, access)
    access.require_declared(named.model)
    from mlpipe_dagster.resources.platform import Platform  # noqa: PLC0415  # imports Dagster

    found = run_load(Platform(), named, access.project, again=options.again)
    return CommandResult(document=found, sections=[Fields(members=found)])


def asked_done_file(text: str, access: DeploymentAccess) -> DoneKey:
    """Return the parsed key of the done file that a batch id, a key or an S3 URL names.

    Args:
        text: A batch id, a key, or `s3://<bucket>/<key>`.
        access: The deployment.

    Raises:
        InvalidNameError: The text is none of these, or names another bucket.
        UnknownBatchError: The registry does not know the batch.
    """
    try:
        batch_id = BatchId(text)
    except InvalidNameError:
        return named_done_file(text, access.settings.data_bucket)
    return parse_done_key(done_key(access.named_batch([batch_id]).model, batch_id))


def named_done_file(text: str, bucket: str) -> DoneKey:
    """Return the parsed key of a done file.

    Args:
        text: The key, or `s3://<bucket>/<key>`.
        bucket: The deployment's bucket.

    Raises:
        InvalidNameError: The text names no done file, or another bucket.
    """
    if not text.startswith(_SCHEME):
        return parse_done_key(text)
    named_bucket, _, key = text.removeprefix(_SCHEME).partition("/")
    if named_bucket != bucket:
        raise InvalidNameError(
            f"{text[:200]!r} is in bucket {named_bucket[:80]!r}, but this deployment uses {bucket}",
            remedy="Name a done file of this deployment, or use the other deployment's environment",
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
    """Register a batch by its done file, then load, check and publish it; return the result.

    Args:
        platform: The platform's resources.
        named: The parsed key of the done file.
        project: The project.
        again: Whether to load the batch even if it is already loaded.
        definitions: The code location; by default that of the project.

    Raises:
        ContractError: The done file is missing or refused, or the run failed.
    """
    # Imported here, because Dagster and the definitions take a second that other commands do not need.
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
    # A person asks for it, so a refused batch is tried again as if it were delivered anew.
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
            f"Run {result.run_id} failed: {' '.join(failure_messages(result))[:_LONGEST_REASON]}",
            remedy="Look at the run in Dagster's UI",
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


def failure_messages(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return the error of each failed step of a run, each as one line."""
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return [_message(_cause(error)) for error in errors if error is not None]


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Return a step's own error, without Dagster's wrappers for steps and retries."""
    while error.cause is not None and error.cls_name in _WRAPPERS:
        error = error.cause
    return error


def _message(error: SerializableErrorInfo) -> str:
    """Return an error's message, without the class name that Dagster puts before it."""
    # A failed job's message ends with lines of its log, which must stay apart.
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
            "DAGSTER_HOME is not set, so the run would not show in Dagster",
            remedy="Set it to the folder of dagster.yaml; for the local stack `mlpipe up` writes it to .env",
        )
    import dagster as dg  # noqa: PLC0415  # takes most of a second

    with dg.DagsterInstance.get() as instance:
        yield instance
