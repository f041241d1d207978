"""What is kept of refused lines while a batch is surveyed, from a bucket in memory."""

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
    """An S3 client of a bucket in memory."""

    def head_object(self, *, Key: str, **_names: str) -> dict[str, Any]:  # noqa: N803  # as boto3 has it
        """Answer with an object's size."""
        return {"ContentLength": len(self[Key])}

    def download_fileobj(self, _bucket: str, key: str, file: IO[bytes], **_options: Any) -> None:
        """Write an object into a file."""
        file.write(self[key])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give the bucket that the survey reads."""
    bucket = Bucket()
    monkeypatch.setattr(survey, "client", lambda _service: bucket)
    return bucket


def write(bucket: Bucket, *parts: Sequence[bytes]) -> DeliveredBatch:
    """Put parts of unparsable lines into the bucket; return their batch."""
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


def test_long_refused_lines_of_a_batch_have_a_limit_in_all(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it a line is kept so far that it can be found; every checksum is of the whole line."""
    monkeypatch.setattr(survey, "_BYTES_KEPT", 100_000)
    parts = [[bytes([48 + number]) * 20_000 for number in range(5)] for _ in range(2)]
    with pytest.raises(TooManyRefusedError) as caught:
        survey_batch(write(bucket, *parts), SequentialEngine(), QuarantineTolerance())
    for part, lines in zip(caught.value.survey.parts, parts, strict=True):
        assert [len(line.content) for line in part.lines] == [20_000, 20_000, 256, 256, 256]
        assert [line.is_cut for line in part.lines] == [False, False, True, True, True]
        assert [line.checksum for line in part.lines] == [refused_checksum(line) for line in lines]


def test_no_more_lines_are_kept_than_refuse_the_batch(bucket: Bucket) -> None:
    """A batch of nothing but refused lines is counted whole, and a few lines of it tell why."""
    batch = write(bucket, *([b"no JSON"] * 50 for _ in range(4)))
    with pytest.raises(TooManyRefusedError, match="None of 200 rows was accepted") as caught:
        survey_batch(batch, SequentialEngine(), QuarantineTolerance(rows=60))
    assert [len(part.lines) for part in caught.value.survey.parts] == [50, 11, 0, 0]
    assert caught.value.survey.reasons == {"unparsable": 200}


@pytest.mark.parametrize("parts", [1, 4])
def test_a_batch_of_empty_lines_is_read_until_it_is_refused(
    bucket: Bucket, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four million of them take four kilobytes, and each costs as much as a row."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, *([b""] * (400_000 // parts) for _ in range(parts)))
    reason = "at least 10000 of 400000 rows were refused, and 400 may be: 10000 unparsable"
    with pytest.raises(TooManyRefusedError, match=reason) as caught:
        survey_batch(batch, SequentialEngine(), QuarantineTolerance())
    assert checked() == 10_000
    assert [len(part.lines) for part in caught.value.survey.parts] == [401]


def test_more_refused_lines_are_read_where_more_may_be(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts together decide about a batch, and up to the line that refuses it."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, *([b"no JSON"] * 12_000 for _ in range(4)))
    with pytest.raises(
        TooManyRefusedError, match="at least 24000 of 48000 rows were refused, and 20000 may be"
    ):
        survey_batch(batch, SequentialEngine(), QuarantineTolerance(rows=20_000))
    assert checked() == 24_000


def test_of_long_refused_lines_fewer_are_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs by its bytes, and few of them refuse the batch as well."""
    checked = count_checked(monkeypatch)
    batch = write(bucket, [b"x" * 100_000] * 200, [b"no JSON"])
    with pytest.raises(TooManyRefusedError, match="at least 64 of 201 rows were refused, and 2 may be"):
        survey_batch(batch, SequentialEngine(), QuarantineTolerance())
    assert checked() == 64


def count_checked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return what counts the refused lines of now on."""
    counted = itertools.count()
    monkeypatch.setattr(
        part_lines, "refused_checksum", lambda line: next(counted) * 0 + refused_checksum(line)
    )
    return lambda: next(counted)


def test_a_small_batch_that_is_refused_keeps_lines_to_read(bucket: Bucket) -> None:
    """A person sees more than the one line that refused the batch."""
    with pytest.raises(TooManyRefusedError, match="None of 30 rows was accepted: 30 unparsable") as caught:
        survey_batch(write(bucket, [b"no JSON"] * 30), SequentialEngine(), QuarantineTolerance())
    assert len(caught.value.survey.parts[0].lines) == 20


@pytest.mark.parametrize("tolerance", [QuarantineTolerance(), QuarantineTolerance(1000, Decimal(1))])
def test_a_batch_without_an_accepted_row_is_refused(bucket: Bucket, tolerance: QuarantineTolerance) -> None:
    """Whatever the model tolerates: a batch that has no rows, and one whose rows were all refused."""
    for lines, reason in (([], "The batch has no rows"), ([b"no JSON"], "None of 1 rows was accepted")):
        with pytest.raises(TooManyRefusedError, match=reason):
            survey_batch(write(bucket, lines), SequentialEngine(), tolerance)
