"""`mlpipe explain`: shows where an answer of the API or a batch comes from."""

from __future__ import annotations

import argparse
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.batch_documents import (
    check_table,
    find_manifest,
    load_documents,
    load_reports,
    package_document,
    package_version,
    publication_documents,
    publication_table,
)
from mlpipe_dagster.cli.inspection.dagster_history import dagster_history
from mlpipe_dagster.cli.inspection.job_documents import UNKNOWN, cost_document, job_documents
from mlpipe_dagster.cli.inspection.prediction_response import PredictionResponse, read_response
from mlpipe_dagster.cli.inspection.source_documents import source_documents, source_table
from mlpipe_dagster.cli.options import Commands, add_command, at_least_one
from prediction_contract.errors import InvalidNameError
from prediction_contract.manifests.manifest import InputObject, Manifest
from prediction_contract.naming.batch import BatchId
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable

_LONGEST_CHAIN = 10


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "explain", explain)
    command.add_argument(
        "about",
        nargs="+",
        metavar="answer",
        help="a file with a JSON answer of the API, `-` for standard input, or [model] batch",
    )
    command.add_argument(
        "--chain",
        type=at_least_one,
        default=_LONGEST_CHAIN,
        metavar="N",
        help=f"the most previous batches to list; by default {_LONGEST_CHAIN}",
    )


def explain(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show where an answer or a batch comes from: inputs, code, model, jobs, checks, runs, cost."""
    answer = _given_answer(options.about)
    record = (
        access.registered_batch(answer.model, answer.batch_id)
        if answer
        else access.named_batch(options.about)
    )
    model, batch_id = record.model, record.batch_id
    manifest, trouble = find_manifest(access, record)
    loads = load_documents(record, load_reports(access.bucket, record))
    jobs = job_documents(access, manifest, loads)
    history = dagster_history(model, batch_id)
    differences = _differences(access.registry, answer, record, manifest) if answer else []
    document: dict[str, Any] = {
        "model": model,
        "batch_id": batch_id,
        "partition": record.partition,
        "load_state": record.load_state,
        "release_state": record.release_state,
        "answer": _answer_document(answer, differences) if answer else None,
        "model_version": manifest.model_version if manifest else None,
        "model_package": package_document(manifest),
        "code_version": manifest.code_version if manifest else None,
        "manifest_key": record.manifest_key,
        "manifest_digest": record.manifest_digest,
        "manifest_trouble": trouble,
        "inputs": {**_inputs(manifest), "sources": source_documents(access, manifest)},
        "previous_batches": _previous_batches(access, model, manifest, options.chain),
        "jobs": jobs,
        "checks": list(history.checks),
        "runs": list(history.runs),
        "dagster_unknown": history.unknown or None,
        "publications": publication_documents(access.registry, record),
        "cost": cost_document(jobs, loads, access.settings.prices),
    }
    notes = [
        f"{model}/{batch_id}: the answer contradicts the records: {difference}" for difference in differences
    ]
    return CommandResult(document=document, sections=_sections(document), ok=not differences, notes=notes)


def _given_answer(about: list[str]) -> PredictionResponse | None:
    """Return the given answer, or None if a batch was named.

    Raises:
        UnreadableResponseError: The content is not an answer of the API.
    """
    if len(about) > 1:
        return None
    try:
        BatchId(about[0])
    except InvalidNameError:
        return read_response(about[0])
    return None


def _differences(
    registry: RegistryTable, answer: PredictionResponse, record: BatchRecord, manifest: Manifest | None
) -> list[str]:
    """Return the contradictions between an answer and the registry or manifest, as sentences."""
    found = []
    if answer.partition not in {None, record.partition}:
        found.append(f"it has partition {answer.partition}, but the registry has {record.partition}")
    if manifest and answer.model_version not in {None, manifest.model_version}:
        found.append(
            f"it has model version {answer.model_version}, but the manifest has {manifest.model_version}"
        )
    if manifest and answer.model_package_version not in {None, package_version(manifest)}:
        found.append(
            f"it has registered version {answer.model_package_version}, but the manifest has "
            f"{package_version(manifest) or 'none'}"
        )
    if answer.sequence is not None:
        # A hold takes a number too, and repeats the live batch.
        entry = registry.publication(record.model, answer.sequence)
        if entry is None or entry.batch_id != record.batch_id:
            found.append(f"publication {answer.sequence} did not make this batch live")
    return found


def _answer_document(answer: PredictionResponse, differences: list[str]) -> dict[str, Any]:
    names = ("entity_id", "partition", "model_version", "model_package_version", "published_at", "sequence")
    stated = {name: getattr(answer, name) for name in names}
    return {**stated, "agrees": not differences, "differences": differences}


def _inputs(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"features": [], "model_artifact": None}
    artifact = manifest.inputs.model_artifact
    return {
        "features": [_input(each) for each in manifest.inputs.features],
        "model_artifact": _input(artifact) if artifact else None,
    }


def _input(given: InputObject) -> dict[str, str]:
    bucket = {} if given.bucket is None else {"bucket": given.bucket}
    return {**bucket, "key": given.key, "sha256": given.sha256}


def _previous_batches(
    access: DeploymentAccess, model: str, manifest: Manifest | None, most: int
) -> list[dict[str, Any]]:
    """Return the previous batch that this one was scored with, its previous batch, and so on."""
    chain: list[dict[str, Any]] = []
    while manifest and manifest.previous_batch_id and len(chain) < most:
        batch_id = str(manifest.previous_batch_id)
        record = access.registry.batch(model, batch_id)
        manifest = find_manifest(access, record)[0] if record else None
        chain.append(
            {
                "batch_id": batch_id,
                "partition": record.partition if record else None,
                "load_state": record.load_state if record else UNKNOWN,
                "release_state": record.release_state if record else UNKNOWN,
                "model_version": manifest.model_version if manifest else None,
                "model_package_version": package_version(manifest),
                "code_version": manifest.code_version if manifest else None,
            }
        )
    return chain


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    plain = ("model", "batch_id", "partition", "load_state", "release_state")
    known = {name: document[name] for name in plain}
    known |= {
        name: document[name] or UNKNOWN for name in ("model_version", "code_version", "manifest_digest")
    }
    if document["model_package"]:
        known |= {f"model_package_{name}": value for name, value in document["model_package"].items()}
    artifact = document["inputs"]["model_artifact"]
    inputs = [
        *({"what": "features", **each} for each in document["inputs"]["features"]),
        *([{"what": "model", **artifact}] if artifact else []),
    ]
    cost = document["cost"]
    costs = [
        *({**item, "estimated_usd": _dollars(item["estimated_usd"])} for item in cost["items"]),
        {
            "what": "total" if cost["is_complete"] else "total of the known costs",
            "estimated_usd": _dollars(cost["estimated_total"]),
        },
    ]
    unknown = document["dagster_unknown"]
    return [
        Fields(members=known),
        *([Fields(title="answer", members=document["answer"])] if document["answer"] else []),
        Table(
            title="inputs",
            columns=("what", "key", "sha256"),
            rows=inputs,
            whole=frozenset({"what", "key", "sha256"}),
            empty=f"unknown: {document['manifest_trouble']}" if document["manifest_trouble"] else "none",
        ),
        source_table(document["inputs"]["sources"]),
        Table(
            title="previous batches",
            columns=(
                "batch_id",
                "partition",
                "load_state",
                "release_state",
                "model_version",
                "model_package_version",
                "code_version",
            ),
            rows=document["previous_batches"],
        ),
        Table(
            title="jobs",
            columns=("step", "name", "run_id", "status", "seconds", "console"),
            rows=document["jobs"],
            whole=frozenset({"name", "run_id", "console"}),
        ),
        check_table(document["checks"], unknown),
        Table(
            title="Dagster runs",
            columns=("run_id", "job", "status", "created_at", "ended_at"),
            rows=document["runs"],
            whole=frozenset({"run_id"}),
            empty=f"unknown: {unknown}" if unknown else "none",
        ),
        publication_table(document["publications"]),
        Table(title="estimated cost, US dollars", columns=("what", "estimated_usd"), rows=costs),
    ]


def _dollars(amount: float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:.6f}"
