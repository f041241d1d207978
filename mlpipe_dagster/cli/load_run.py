"""`mlpipe load`: the load job of one batch, run by Dagster in this process and recorded as any other run."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlpipe_dagster.asset_names import PUBLICATION, chosen_batch_tag, load_job_name, load_op_name, op_name
from mlpipe_dagster.cli.declared_models import declared_model
from mlpipe_dagster.noticing import notice
from mlpipe_dagster.publishing import PublishingError
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.s3_layout import done_key


def run_load(platform: Platform, model: str, batch_id: str, *, again: bool) -> dict[str, Any]:
    """Register a batch by its done file, then load, check and publish it; return what came of it.

    Raises:
        ContractError: The done file is missing or refused, or the run failed.
    """
    declared_model(model)
    # A person asks for it: a batch that was refused is tried again, as if it were delivered once more.
    noticed = notice(platform.bucket, platform.registry, done_key(model, batch_id), redelivered=True)
    if noticed.manifest is None or noticed.refusal is not None:
        raise PublishingError(
            f"The done file {noticed.key} is refused: {noticed.refusal}",
            remedy="Correct it and deliver it again",
            model=model,
            batch_id=batch_id,
        )
    # The code location needs a second, which the other commands shall not pay.
    from mlpipe_dagster.definitions import defs  # noqa: PLC0415

    job = defs().resolve_job_def(load_job_name(model))
    named = {"batch_id": batch_id}
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            run_config={
                "ops": {
                    load_op_name(model): {"config": {**named, "again": again}},
                    op_name(model, PUBLICATION): {"config": named},
                }
            },
            partition_key=noticed.manifest.partition.dagster_key,
            tags={chosen_batch_tag(model): batch_id},
            instance=instance,
            raise_on_error=False,
        )
    if not result.success:
        failures = [
            event.step_failure_data.error.message
            for event in result.get_step_failure_events()
            if event.step_failure_data.error is not None
        ]
        raise PublishingError(
            f"Run {result.run_id} failed: {' '.join(failures)[:2000]}",
            remedy="See the run in Dagster's UI",
            model=model,
            batch_id=batch_id,
        )
    record = platform.registry.batch(model, batch_id)
    return {
        "run_id": result.run_id,
        "batch_id": batch_id,
        "load_state": str(record.load_state) if record else None,
        "release_state": str(record.release_state) if record else None,
    }
