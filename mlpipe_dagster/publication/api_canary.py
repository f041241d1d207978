"""The canary: after a publication, the deployed API must answer with a prediction of the live batch."""

# No postponed annotations: Dagster compares the context's annotation itself.
import time
from dataclasses import dataclass

import dagster as dg

from mlpipe_dagster.done_files.registration import registered_batch, registered_manifest
from mlpipe_dagster.loading.online_count import first_stored_key
from mlpipe_dagster.markdown import code_span
from mlpipe_dagster.publication.api_client import ApiResponse, PublicApi, ask_until
from mlpipe_dagster.publication.live_batch_rules import CheckVerdict
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning

# The API caches a pointer for some seconds, and a cold start takes one more.
_WITHIN_SECONDS = 45.0
_FOUND = 200


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The API's answer about the live batch.

    Attributes:
        answer: The verdict: whether the API shows the live batch.
        asked_batch_id: The batch that the API should show; None if none is live.
        shown: The API's last answer, if there was one.
        seconds: How long it took to get that answer.
    """

    answer: CheckVerdict
    asked_batch_id: str | None = None
    shown: ApiResponse | None = None
    seconds: float = 0.0


def canary_check_result(found: CanaryResult, spec: dg.AssetCheckSpec) -> dg.AssetCheckResult:
    """Return the canary's result as a Dagster check result."""
    shown = {
        "batch_id": found.asked_batch_id,
        "answered_batch_id": found.shown.batch_id if found.shown else None,
        "status": found.shown.status if found.shown else None,
        "request_id": found.shown.request_id if found.shown else None,
        "seconds": round(found.seconds, 1),
    }
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=found.answer.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=code_span(found.answer.text),
        metadata={name: value for name, value in shown.items() if value is not None},
    )


def ask_api(platform: Platform, model: str, *, seconds: float = _WITHIN_SECONDS) -> CanaryResult:
    """Ask the API for an entity of the live batch until it shows that batch or time runs out."""
    settings, registry = platform.settings, platform.registry
    home = settings.deployment.home

    def live_batch_id() -> str | None:
        pointer = registry.pointer(model, home)
        return pointer.batch_id if pointer else None

    batch_id = live_batch_id()
    if batch_id is None:
        return CanaryResult(CheckVerdict(True, "No batch is live, so there is nothing to ask for"))
    if settings.api is None:
        words = "The API was not asked because a variable is not set: MLPIPE_API_URL, MLPIPE_TOKEN_URL, "
        return CanaryResult(
            CheckVerdict(False, f"{words}MLPIPE_TOKEN_CLIENT_SECRET_NAME or MLPIPE_TOKEN_SCOPE"),
            batch_id,
        )
    record = registered_batch(registry, model, batch_id)
    manifest = registered_manifest(platform.bucket, record)
    refused = record.quarantined_rows
    entity_id = first_stored_key(
        platform.bucket,
        platform.client("dynamodb"),
        settings.deployment.online_table(model),
        manifest,
        # Records of an earlier version have no count.
        refused_rows=manifest.row_count if refused is None else refused,
        cleaning=recorded_cleaning(record.cleaning),
    )
    if entity_id is None:
        return CanaryResult(
            CheckVerdict(False, f"{batch_id} is live, but none of its rows was accepted"), batch_id
        )
    api = PublicApi(settings.api, platform.client("secretsmanager"))
    began = time.monotonic()
    shown, trouble = ask_until(
        lambda: api.prediction(model, entity_id),
        lambda answer: answer.status == _FOUND and answer.batch_id == batch_id,
        seconds=seconds,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    took = time.monotonic() - began
    if not trouble and shown and shown.status == _FOUND and shown.batch_id in {batch_id, live_batch_id()}:
        # Another batch may have become live in the meantime; showing that one is right, too.
        return CanaryResult(CheckVerdict(True, f"The API shows {shown.batch_id}"), batch_id, shown, took)
    shows = trouble or (f"{shown.status} with batch {shown.batch_id}" if shown else "nothing")
    return CanaryResult(
        CheckVerdict(False, f"{batch_id} is live, but after {took:.0f} s the API still answers: {shows}"),
        batch_id,
        shown,
        took,
    )
