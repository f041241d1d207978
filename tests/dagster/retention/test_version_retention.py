"""Versions that ended long ago are retired with their archives unless they may still be needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.retention.version_retention import KEPT_FOR, VersionRetention
from prediction_contract.naming.s3_layout import candidates_prefix
from prediction_contract.registry import version_rules
from prediction_contract.registry.manifest_rules import ManifestFacts, register_batch
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.registry.version_records import ModelVersion
from tests.dagster.small_model import now

if TYPE_CHECKING:
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack

LATER = KEPT_FOR + timedelta(days=1)


class Versions:
    """The versions of a small model, each with its own archive."""

    def __init__(self, small: SmallModel) -> None:
        self.small = small
        self.registry, self.bucket = small.platform.registry, small.platform.bucket
        self.retention = VersionRetention(self.registry, self.bucket, small.name)

    def record(self, number: int, approval: str = "Approved", *, artifact_key: str = "") -> ModelVersion:
        """Record a version, and store its archive."""
        folder = f"{candidates_prefix(self.small.name)}job-{number}/output/"
        found = ModelVersion(
            model=self.small.name,
            version=number,
            state="candidate",
            digest=f"{number:016x}",
            artifact_key=f"{folder}model.tar.gz",
            artifact_sha256="0" * 64,
            package_arn=f"arn:aws:sagemaker:us-east-1:111111111111:model-package/m/{number}",
            approval=approval,
            created_at="2013-02-01T00:00:00Z",
        )
        self.bucket.put(found.artifact_key, b"archive")
        self.bucket.put(f"{folder}metrics.json", b"{}")
        found = replace(found, artifact_key=artifact_key or found.artifact_key)
        self.bucket.put(found.artifact_key, b"archive")
        self.registry.carry_out(lambda: version_rules.record_version(None, found))
        return found

    def promote(self, number: int) -> None:
        """Make a version the champion."""
        request = ChangeRequest(request_id=f"promote-{number}-{now().timestamp()}", actor="ada")

        def decide() -> Transaction:
            version = self.registry.model_version(self.small.name, number)
            assert version is not None
            return version_rules.promote(version, self.registry.champion(self.small.name), request, now=now())

        assert self.registry.carry_out(decide)

    def batch_of(self, number: int) -> str:
        """Register a batch that a version scored, and return its id."""
        manifest = self.small.manifest()
        facts = ManifestFacts(
            model=self.small.name,
            batch_id=manifest.batch_id,
            partition=manifest.partition,
            manifest_key=manifest.key,
            manifest_digest=manifest.digest,
            version_number=number,
        )
        self.registry.carry_out(lambda: register_batch(facts, None))
        return manifest.batch_id

    def archives(self) -> set[int]:
        """Return the versions whose archives exist, and assert that each has both files."""
        keys = [item.key for item in self.bucket.below(candidates_prefix(self.small.name))]
        jobs = [int(key.split("job-")[1].split("/")[0]) for key in keys]
        assert all(jobs.count(job) == 2 for job in jobs)
        return set(jobs)

    def states(self) -> dict[int, str]:
        """Return the state of each version."""
        return {each.version: each.state for each in self.registry.model_versions(self.small.name)}


@pytest.fixture
def versions(small_model: SmallModel) -> Versions:
    """Make six versions: the third refused, the fifth superseded, and the sixth champion."""
    made = Versions(small_model)
    for number in (1, 2, 4, 5, 6):
        made.record(number)
        made.promote(number)
    made.record(3, "Rejected")
    return made


def test_old_versions_are_retired_with_their_archives(versions: Versions) -> None:
    """Retention starts at creation for a refused version; champion and previous champion stay."""
    assert versions.retention.sweep(now()) == [3]
    assert versions.archives() == {1, 2, 4, 5, 6}
    assert versions.retention.sweep(now() + LATER) == [4, 2, 1]
    assert versions.archives() == {5, 6}
    assert versions.states() == {
        **dict.fromkeys((1, 2, 3, 4), "retired"),
        5: "superseded",
        6: "champion",
    }
    assert versions.retention.sweep(now() + LATER) == []


def test_version_of_a_kept_batch_stays(versions: Versions) -> None:
    """It is retired once its batch is."""
    batch_id = versions.batch_of(2)
    assert versions.retention.sweep(now() + LATER) == [4, 3, 1]
    key = versions.small.record(batch_id).key
    versions.registry.carry_out(
        lambda: Transaction(
            versions.small.name, batch_id, (Write(key=key, assign={"load_state": "retired"}),)
        )
    )
    assert versions.retention.sweep(now() + LATER) == [2]


def test_next_sweep_deletes_archives_left_by_a_dead_one(versions: Versions) -> None:
    """A version already retired in the registry still gets its archive deleted."""
    version = versions.registry.model_version(versions.small.name, 1)
    assert version is not None
    versions.registry.carry_out(lambda: version_rules.retire_version(version))
    versions.retention.sweep(now() - timedelta(days=9999))
    assert versions.archives() == {2, 3, 4, 5, 6}


def test_shared_archive_and_file_from_elsewhere_stay(versions: Versions) -> None:
    """A file outside the candidates' folder is not the platform's to delete."""
    shared = f"{candidates_prefix(versions.small.name)}job-6/output/model.tar.gz"
    versions.record(7, "Rejected", artifact_key=shared)
    versions.record(8, "Rejected", artifact_key="elsewhere/model.json")
    assert versions.retention.sweep(now()) == [7, 3]
    assert 6 in versions.archives()
    assert versions.states()[8] == "refused"
    assert versions.bucket.look("elsewhere/model.json") is not None
