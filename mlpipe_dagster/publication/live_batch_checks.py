"""Checks of the live batch: the API shows it, it does not expire soon, and each due partition has a batch."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import (
    API_CANARY,
    LIVE_BATCH_LASTS,
    PARTITION_IS_FRESH,
    PUBLICATION,
    asset_key,
    op_name,
)
from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.api_canary import ask_api, canary_check_result
from mlpipe_dagster.publication.live_batch_rules import (
    CheckVerdict,
    due_partition,
    expiry_verdict,
    freshness_verdict,
    served_batches,
)
from mlpipe_dagster.resources.platform import Platform
from model_declaration.declaration import ModelDeclaration
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable

_DESCRIPTIONS = {
    API_CANARY: "The deployed API answers with the live batch, asked through its public address.",
    LIVE_BATCH_LASTS: "No region serves a batch whose items are about to expire.",
    PARTITION_IS_FRESH: "The last due partition has a batch that may be served.",
}


def live_batch_checks(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetChecksDefinition:
    """Return the checks of a model's publication; one step, because each step slows the code location.

    The sensor of live batches evaluates all checks except the canary. The freshness check exists only if the
    model declares when a partition is due.
    """
    due = declaration.publication.due_hours
    model = ServedModel(
        name=declaration.name,
        partitions=partitions,
        items_life=timedelta(days=declaration.retention.items_days),
        due_after=None if due is None else timedelta(hours=due),
    )
    names = [API_CANARY, LIVE_BATCH_LASTS, *([PARTITION_IS_FRESH] if due is not None else [])]
    specs = [
        dg.AssetCheckSpec(name, asset=asset_key(model.name, PUBLICATION), description=_DESCRIPTIONS[name])
        for name in names
    ]

    @dg.multi_asset_check(name=op_name(model.name, "live_batch"), specs=specs, can_subset=True)
    def live_batch(
        context: dg.AssetCheckExecutionContext, platform: Platform
    ) -> Iterator[dg.AssetCheckResult]:
        records, _ = served_batches(platform, model.name)
        verdicts = live_batch_verdicts(platform.registry, model, records, datetime.now(UTC))
        for spec in specs:
            if spec.key not in context.op_execution_context.selected_asset_check_keys:
                continue
            if spec.name == API_CANARY:
                yield canary_check_result(ask_api(platform, model.name), spec)
            else:
                verdict = verdicts[spec.name]
                yield dg.AssetCheckResult(
                    asset_key=spec.asset_key,
                    check_name=spec.name,
                    passed=verdict.passed,
                    description=verdict.text,
                )

    return live_batch


def live_batch_verdicts(
    registry: RegistryTable, model: ServedModel, records: list[BatchRecord], now: datetime
) -> dict[str, CheckVerdict]:
    """Return the verdicts on a model's served batches and on its due partition, by check name.

    Args:
        registry: The registry.
        model: The model.
        records: The batches that some region serves.
        now: The current time.
    """
    verdicts = {LIVE_BATCH_LASTS: expiry_verdict(records, now=now, items_life=model.items_life)}
    if model.due_after is not None:
        partition = due_partition(model.partitions, model.due_after, now)
        verdicts[PARTITION_IS_FRESH] = (
            CheckVerdict(True, "No partition is due yet")
            if partition is None
            else freshness_verdict(registry, model.name, partition)
        )
    return verdicts
