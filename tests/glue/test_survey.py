"""Tests of how many refused lines a survey reads and keeps."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pytest

from glue_scripts.engine import SequentialEngine
from glue_scripts.files import part_lines, survey
from glue_scripts.files.delivered_batch import DeliveredBatch
from glue_scripts.files.survey import TooManyRefusedError, survey_batch
from prediction_contract.manifests.manifest import JsonPart, build_manifest
from prediction_contract.naming.s3_layout import json_part_key
from prediction_contract.rows.checksums import batch_checksum, refused_checksum
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL, BATCH, PARTITION = "flight_delay", "20130201T060000Z-0123abcd", "2013-02-01"


class Bucket(dict[str, bytes]):
    """An S3 client for a bucket in memory."""

    def head_object(self, *, Key: str, **_names: str) -> dict[str, Any]:  # noqa: N803  # as boto3 has it
        """Return an object's size."""
        return {"ContentLength": len(self[Key])}

    def download_fileobj(self, _bucket: str, key: str, file: IO[bytes], **_options: Any) -> None:
        """Write an object into a file."""
        file.write(self[key])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return the bucket that the survey reads."""
    bucket = Bucket()
    monkeypatch.setattr(survey, "client", lambda _service: bucket)
    return bucket


def write(bucket: Bucket, *parts: Sequence[bytes]) -> DeliveredBatch:
    """Put parts with these lines into the bucket; return their batch."""
    described = []
    for number, lines in enumerate(parts):
        content, key = (
            gzip.compress(b"\n".join(lines)),
            json_part_key(MODEL, PARTITION, BATCH, 1, share="part", number=number),
        )
        bucket[key] = content
        described.append(JsonPart(key, len(lines), len(content), hashlib.sha256(content).hexdigest()))
    manifest = build_manifest(
        model=MODEL,
        batch_id=BATCH,
        attempt=1,
        partition=PARTITION,
        bucket="bucket",
        created_at=datetime(2013, 2, 1, 6, tzinfo=UTC),
        model_version="1",
        code_version="1",
        schema=FULL_SCHEMA,
        json_parts=described,
        delta_version=0,
        delta_files=["part-00000.parquet"],
        checksum=batch_checksum(refused_checksum(line) for lines in parts for line in lines),
    )
    return DeliveredBatch(manifest)


def test_refused_lines_of_a_batch_share_a_size_limit(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit only a line's beginning is kept, but each checksum covers the whole line."""
    monkeypatch.setattr(survey, "_BYTES_KEPT", 100_000)
    parts = [[bytes([48 + number]) * 20_000 for number in range(5)] for _ in range(2)]
    with pytest.raises(TooManyRefusedError) as caught:
        survey_batch(write(bucket, *parts), SequentialEngine(), QuarantineTolerance())
    for part, lines in zip(caught.value.survey.parts, parts, strict=True):
        assert [len(line.content) for line in part.lines] == [20_000, 20_000, 256, 256, 256]
        assert [line.is_cut for line in part.lines] == [False, False, True, True, True]
        assert [line.checksum for line in part.lines] == [refused_checksum(line) for line in lines]


def test_only_enough_lines_to_refuse_the_batch_are_kept(bucket: Bucket) -> None:
    """All refused lines are counted, but only as many are kept as refuse the batch."""
    batch = write(bucket, *([b"no JSON"] * 50 for _ in range(4)))
    with pytest.raises(TooManyRefusedError, match="None of 200 rows was accepted") as caught:
        survey_batch(batch, SequentialEngine(), QuarantineTolerance(rows=60))
    assert [len(part.lines) for part in caught.value.survey.parts] == [50, 11, 0, 0]
    assert caught.value.survey.reasons == {"unparsable": 200}


@pytest.mark.parametrize("parts", [1, 4])
def test_survey_stops_once_the_batch_is_refused(
    bucket: Bucket, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of empty lines is read only until it is certainly refused."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, *([b""] * (400_000 // parts) for _ in range(parts)))
    reason = "at least 10000 of 400000 rows were refused, and 400 may be: 10000 unparsable"
    with pytest.raises(TooManyRefusedError, match=reason) as caught:
        survey_batch(batch, SequentialEngine(), QuarantineTolerance())
    assert checked() == 10_000
    assert [len(part.lines) for part in caught.value.survey.parts] == [401]


def test_survey_reads_more_lines_with_higher_tolerance(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a higher tolerance more refused lines are read, over all parts together."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, *([b"no JSON"] * 12_000 for _ in range(4)))
    with pytest.raises(
        TooManyRefusedError, match="at least 24000 of 48000 rows were refused, and 20000 may be"
    ):
        survey_batch(batch, SequentialEngine(), QuarantineTolerance(rows=20_000))
    assert checked() == 24_000


def test_survey_reads_fewer_long_refused_lines(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long refused lines count by their bytes, so reading stops after fewer of them."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, [b"x" * 100_000] * 200, [b"no JSON"])
    with pytest.raises(TooManyRefusedError, match="at least 64 of 201 rows were refused, and 2 may be"):
        survey_batch(batch, SequentialEngine(), QuarantineTolerance())
    assert checked() == 64


def count_checked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that counts the refused lines read from now on."""
    counted = itertools.count()
    monkeypatch.setattr(
        part_lines, "refused_checksum", lambda line: next(counted) * 0 + refused_checksum(line)
    )
    return lambda: next(counted)


def test_refused_small_batch_keeps_several_lines(bucket: Bucket) -> None:
    """A refused batch keeps twenty lines, not only the one that refused it."""
    with pytest.raises(TooManyRefusedError, match="None of 30 rows was accepted: 30 unparsable") as caught:
        survey_batch(write(bucket, [b"no JSON"] * 30), SequentialEngine(), QuarantineTolerance())
    assert len(caught.value.survey.parts[0].lines) == 20


@pytest.mark.parametrize("tolerance", [QuarantineTolerance(), QuarantineTolerance(1000, Decimal(1))])
def test_survey_refuses_batch_without_accepted_rows(bucket: Bucket, tolerance: QuarantineTolerance) -> None:
    """A batch with no rows or no accepted rows is refused whatever the tolerance."""
    for lines, reason in (([], "The batch has no rows"), ([b"no JSON"], "None of 1 rows was accepted")):
        with pytest.raises(TooManyRefusedError, match=reason):
            survey_batch(write(bucket, lines), SequentialEngine(), tolerance)
