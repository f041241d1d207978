"""Test that a real job with several hosts scores the same batch as a single host."""

from __future__ import annotations

import dataclasses
import gzip
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from prediction_contract.naming.batch import mint_batch_id
from tests.sagemaker.declared_models import INPUTS
from tests.sagemaker.scoring_jobs import ScoringJobs

if TYPE_CHECKING:
    from prediction_contract.manifests.manifest import Manifest

pytestmark = pytest.mark.stack
MODEL, BEFORE, DAY = "flight_delay", "2013-02-19", "2013-02-20"
HOSTS = 3


def scored(jobs: ScoringJobs, inputs_key: str, day: str, instances: int) -> Manifest:
    """Score a batch in chunks on the given number of hosts, and return its manifest."""
    batch_id = mint_batch_id(MODEL, day, uuid.uuid4().hex, datetime.now(UTC))
    arguments = jobs.score_arguments(MODEL, day, batch_id=batch_id, inputs_key=inputs_key, chunk_rows=100)
    return jobs.manifest(jobs.scored(arguments, instances=instances)["manifest_key"])


def lines(jobs: ScoringJobs, manifest: Manifest) -> list[bytes]:
    """Return the lines of a batch in order."""
    return [
        line for part in manifest.json_parts for line in gzip.decompress(jobs.content(part.key)).splitlines()
    ]


@pytest.mark.usefixtures("trained")
def test_hosts_score_the_same_batch_as_one(jobs: ScoringJobs) -> None:
    """One and three hosts write the same rows, order and bytes, and join the same previous batch."""
    key, content = dataclasses.replace(INPUTS[MODEL], whole=False).to_document()
    jobs.client("s3").put_object(Bucket=jobs.bucket, Key=key, Body=content)
    before = scored(jobs, key, BEFORE, 1)
    alone, shared = (scored(jobs, key, DAY, instances) for instances in (1, HOSTS))
    assert alone.previous_batch_id == shared.previous_batch_id == before.batch_id
    assert len({part.key for part in shared.json_parts}) > HOSTS
    assert (alone.row_count, alone.checksum) == (shared.row_count, shared.checksum)
    assert lines(jobs, alone) == lines(jobs, shared)
    assert [part.sha256 for part in alone.json_parts] == [part.sha256 for part in shared.json_parts]
    assert any(b'"correction_minutes":' in line for line in lines(jobs, shared))
