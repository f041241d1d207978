"""Done files of batches whose ids lie in the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.canned.canned_done_files import BUCKET, MODEL, manifest_bytes
from mlpipe_dagster.done_files.registration import parse_done_file
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.naming.s3_layout import done_key


@pytest.mark.parametrize(("minutes_ahead", "is_refused"), [(50, True), (6, True), (3, False), (-600, False)])
def test_batch_minted_more_than_minutes_ahead_is_refused(minutes_ahead: int, *, is_refused: bool) -> None:
    """A small clock skew is tolerated; a larger one would stop the automatic publication of other batches."""
    minted_at = datetime.now(UTC) + timedelta(minutes=minutes_ahead)
    key = done_key(MODEL, f"{minted_at:%Y%m%dT%H%M%SZ}-00000000")
    judged = parse_done_file(DataBucket(None, BUCKET), key, manifest_bytes(key))
    assert ("in the future" in (judged.refusal or "")) is is_refused
