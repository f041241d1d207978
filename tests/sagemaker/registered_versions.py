"""Model versions as the registry stores them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, champion_key
from prediction_contract.registry.version_rules import promote, record_version

if TYPE_CHECKING:
    from prediction_contract.jobs.pinned_model import PinnedModel
    from prediction_contract.registry.table import RegistryTable
    from tests.fakes.registry_table import FakeRegistryTable


def register(
    registry: FakeRegistryTable,
    model: str,
    pinned: PinnedModel,
    *,
    version: int,
    state: str = "approved",
    champion: bool = False,
) -> ModelVersion:
    """Write a version's record, and the champion pointer if it is the champion."""
    record = version_record(model, pinned, version=version, state="champion" if champion else state)
    registry.records[record.key] = record.key.attributes() | stored(record)
    if champion:
        pointer = ChampionPointer(model=model, version=version, digest=pinned.digest, sequence=version)
        key = champion_key(model)
        registry.records[key] = key.attributes() | stored(pointer)
    return record


def promote_version(registry: RegistryTable, version: ModelVersion) -> None:
    """Record a version as a listing would, and promote it as a person would."""
    model, number = version.model, version.version
    registry.carry_out(lambda: record_version(registry.model_version(model, number), version))
    request, now = ChangeRequest(request_id=f"promote-{number}", actor="test"), datetime.now(UTC)
    registry.carry_out(
        lambda: promote(
            registry.model_version(model, number) or version, registry.champion(model), request, now=now
        )
    )


def version_record(model: str, pinned: PinnedModel, *, version: int, state: str) -> ModelVersion:
    """Return the record of a version with the given artifact and state."""
    return ModelVersion(
        model=model,
        version=version,
        state=state,
        digest=pinned.digest,
        artifact_key=pinned.key,
        artifact_sha256=pinned.sha256,
        artifact_bucket=pinned.bucket,
        codec=pinned.codec,
        package_arn=f"arn:aws:sagemaker:eu-west-1:123456789012:model-package/{model}/{version}",
        approval="Rejected" if state == "refused" else "Approved",
        approved_by=None if state in {"refused", "candidate"} else "anna",
        created_at="2013-02-01T00:00:00Z",
    )


def stored(record: ChampionPointer | ModelVersion) -> dict[str, Any]:
    """Return a record's attributes as the registry stores them, without null values."""
    return {name: value for name, value in asdict(record).items() if value is not None}
