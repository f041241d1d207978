"""Retires model versions that ended long ago and are no longer needed, and deletes their archives."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.errors import RuleViolationError
from prediction_contract.naming.s3_layout import candidates_prefix
from prediction_contract.registry.records import LoadState
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import ModelVersion, VersionState
from prediction_contract.registry.version_rules import retire_version
from prediction_contract.text.utc_time import parse_utc

# Far longer than a batch takes that pinned a version just before the version ended.
KEPT_FOR = timedelta(days=30)
_ENDED = frozenset({VersionState.REFUSED, VersionState.SUPERSEDED, VersionState.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class VersionRetention:
    """Retires versions of one model, and deletes the archives of those that were trained here.

    Attributes:
        registry: The registry.
        bucket: The data bucket, which holds the archives.
        model: The model's name.
    """

    registry: RegistryTable
    bucket: DataBucket
    model: str

    def sweep(self, now: datetime) -> list[int]:
        """Retire expired versions, delete the archives of retired ones, and return the newly retired.

        Only archives of retired versions are deleted, so the next sweep can complete one that died.

        Raises:
            RegistryUnavailableError: The registry did not take a change in time.
        """
        versions = [version for version in self.registry.model_versions(self.model) if self._folder(version)]
        due = list(self._due(versions, now))
        named = self._needed() if due else frozenset()
        left = [version.version for version in due if version.version not in named and self._retire(version)]
        retired = {each.version for each in versions if each.state == VersionState.RETIRED} | set(left)
        needed = {self._folder(each) for each in versions if each.version not in retired}
        self._delete({self._folder(each) for each in versions if each.version in retired} - needed)
        return left

    def _due(self, versions: Collection[ModelVersion], now: datetime) -> Iterator[ModelVersion]:
        """Yield the versions that ended long ago."""
        ended_at = {entry.sequence: entry.changed_at for entry in self.registry.promotions(self.model)}
        for version in versions:
            moment = ended_at.get(version.superseded_sequence or 0, version.created_at)
            if version.state in _ENDED and parse_utc(moment) < now - KEPT_FOR:
                yield version

    def _needed(self) -> frozenset[int]:
        """Return the versions that unretired batches name, and the version that a demotion would restore."""
        kept = self.registry.batches(
            self.model, minted_from=self.registry.retention(self.model).retained_from
        )
        named = {batch.version_number for batch in kept if batch.load_state != LoadState.RETIRED}
        target = self.registry.demotion_target(self.model)
        return frozenset(number for number in named | {target and target.version} if number is not None)

    def _retire(self, version: ModelVersion) -> bool:
        def decide() -> Transaction:
            # If the version has changed since it was read, it stays for a later sweep.
            found = self.registry.model_version(self.model, version.version)
            return retire_version(version) if found == version else Transaction(self.model, None)

        try:
            return self.registry.carry_out(decide)
        except RuleViolationError:
            return False

    def _folder(self, version: ModelVersion) -> str | None:
        """Return the folder of a version's training job; None for a version that was trained elsewhere."""
        prefix = candidates_prefix(self.model)
        if version.artifact_bucket is not None or not version.artifact_key.startswith(prefix):
            return None
        return f"{prefix}{version.artifact_key.removeprefix(prefix).partition('/')[0]}/"

    def _delete(self, folders: Collection[str | None]) -> None:
        if folders:
            stored = self.bucket.below(candidates_prefix(self.model))
            self.bucket.delete(
                [item.key for item in stored if any(item.key.startswith(each) for each in folders if each)]
            )
