"""Records SageMaker's model packages and their approval as versions in the registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice

from mlpipe_dagster.versions.model_packages import COMPLETED, ModelPackageError, ModelPackages, PackageListing
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import ModelVersion, VersionState
from prediction_contract.registry.version_rules import record_version

# The most packages described per model and tick; the next tick describes the others.
_MAX_DESCRIBED = 50
# Versions in these states are not in use, so their packages may be deleted.
_ENDED = frozenset({VersionState.REFUSED, VersionState.RETIRED, VersionState.WITHDRAWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedPackages:
    """The result of following a model's packages once.

    Attributes:
        versions: The registry's records of the model's versions afterwards, by version.
        recorded: The versions whose record changed.
        unusable: By version, why its package cannot be used.
        deleted: The versions that may still score although their packages were deleted.
    """

    versions: Mapping[int, ModelVersion] = field(default_factory=dict)
    recorded: tuple[int, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)
    deleted: tuple[int, ...] = ()


def follow_packages(
    packages: ModelPackages, registry: RegistryTable, model: str, *, named: Collection[int] = ()
) -> FollowedPackages:
    """Record each package that the registry lacks, and each approval that has changed.

    Only SageMaker's present answers count, so a late or repeated call does no harm.

    Args:
        packages: SageMaker's model packages.
        registry: The registry.
        model: The model's name.
        named: Versions named by events; they are described even if the listing does not include them.

    Raises:
        ModelPackageError: SageMaker does not list the model's packages.
        RegistryUnavailableError: The registry did not take a change in time.
    """
    known = {record.version: record for record in registry.model_versions(model)}
    listing = packages.listing(model)
    recorded, unusable, deleted = [], {}, []
    for version in islice(_to_describe(listing, known, named), _MAX_DESCRIBED):
        try:
            if _follow(packages, registry, model, version):
                recorded.append(version)
        except (ModelPackageError, RuleViolationError) as error:
            unusable[version] = str(error)
            continue
        if (record := registry.model_version(model, version)) is not None:
            known[version] = record
            # A listing may lag behind, so a package is gone only if it cannot be described either.
            if version not in listing.packages and packages.describe(model, version) is None:
                deleted.append(version)
    return FollowedPackages(
        versions=known, recorded=tuple(recorded), unusable=unusable, deleted=tuple(deleted)
    )


def _to_describe(
    listing: PackageListing, known: Mapping[int, ModelVersion], named: Collection[int]
) -> dict[int, None]:
    """Return the versions that may differ between SageMaker and the registry, those of events first."""
    changed = [
        found.version
        for found in listing.packages.values()
        if found.status == COMPLETED
        and (
            (record := known.get(found.version)) is None
            or (record.approval != found.approval and record.state != VersionState.RETIRED)
        )
    ]
    unlisted = [
        version
        for version, record in known.items()
        if version not in listing.packages and listing.covers(version) and record.state not in _ENDED
    ]
    unlisted_events = [version for version in named if version not in listing.packages]
    return dict.fromkeys([*unlisted_events, *changed, *unlisted])


def _follow(packages: ModelPackages, registry: RegistryTable, model: str, version: int) -> bool:
    """Record the present state of a package; return whether the registry changed."""

    def decide() -> Transaction:
        # The registry is read first, so that a newer record is never overwritten by an older description.
        seen = registry.model_version(model, version)
        found = packages.version(model, version)
        return Transaction(model, None) if found is None else record_version(seen, found)

    return registry.carry_out(decide)
