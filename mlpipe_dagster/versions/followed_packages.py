"""The registry follows SageMaker's model packages: versions and their approval are recorded."""

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

# Of one look at a model; the next one finds what is left over.
_MAX_DESCRIBED = 50
# A version in one of these states scores no batch by itself: its package may well be gone.
_ENDED = frozenset({VersionState.REFUSED, VersionState.RETIRED, VersionState.WITHDRAWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedPackages:
    """What one look at a model's packages found.

    Attributes:
        versions: The registry's records of the model's versions after the look, by version.
        recorded: The versions whose record changed.
        unusable: Why a package cannot be a version, by version.
        deleted: The versions that may still score and whose package somebody has deleted.
    """

    versions: Mapping[int, ModelVersion] = field(default_factory=dict)
    recorded: tuple[int, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)
    deleted: tuple[int, ...] = ()


def follow_packages(
    packages: ModelPackages, registry: RegistryTable, model: str, *, named: Collection[int] = ()
) -> FollowedPackages:
    """Record each package that the registry does not know, and each approval that it knows otherwise.

    Only what SageMaker says now counts: a look that is late or repeated changes nothing.

    Args:
        packages: SageMaker's.
        registry: The registry.
        model: The model's name.
        named: Versions that an event names; they are looked at even if the listing does not reach them.

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
            # A listing may lag behind: only a package that cannot be described either is gone.
            if version not in listing.packages and packages.describe(model, version) is None:
                deleted.append(version)
    return FollowedPackages(
        versions=known, recorded=tuple(recorded), unusable=unusable, deleted=tuple(deleted)
    )


def _to_describe(
    listing: PackageListing, known: Mapping[int, ModelVersion], named: Collection[int]
) -> dict[int, None]:
    """Return the versions of which the registry may not know what SageMaker knows, those of events first."""
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
    beyond = [version for version in named if version not in listing.packages]
    return dict.fromkeys([*beyond, *changed, *unlisted])


def _follow(packages: ModelPackages, registry: RegistryTable, model: str, version: int) -> bool:
    """Record a package as it is now; return whether the registry changed."""

    def decide() -> Transaction:
        # In this order: what somebody else has found later must not be overwritten.
        seen = registry.model_version(model, version)
        found = packages.version(model, version)
        return Transaction(model, None) if found is None else record_version(seen, found)

    return registry.carry_out(decide)
