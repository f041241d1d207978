"""What becomes of a done file, by its content and by what the registry knows of its batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.canned.canned_done_files import BUCKET, MODEL, manifest_bytes
from mlpipe_dagster.done_files.registration import parse_done_file
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.naming.s3_layout import done_key


@pytest.mark.parametrize(("minutes_ahead", "is_refused"), [(50, True), (6, True), (3, False), (-600, False)])
def test_a_batch_minted_more_than_minutes_ahead_is_refused(minutes_ahead: int, *, is_refused: bool) -> None:
    """Until its moment has passed, those that correct clocks mint would not go live by themselves."""
    minted_at = datetime.now(UTC) + timedelta(minutes=minutes_ahead)
    key = done_key(MODEL, f"{minted_at:%Y%m%dT%H%M%SZ}-00000000")
    judged = parse_done_file(DataBucket(None, BUCKET), key, manifest_bytes(key))
    assert ("in the future" in (judged.refusal or "")) is is_refused
