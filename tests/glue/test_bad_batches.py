"""An invalid batch is refused as a whole with its reason, and other batches still load."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.errors import BatchRefusedError, LoadFailedError
from prediction_contract.errors import InvalidManifestError
from prediction_contract.manifests.manifest import parse_manifest
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.registry.load_rules import verify_load
from prediction_contract.text.canonical_json import canonical_bytes
from tests.glue.batch_builder import BATCH, WrittenBatch, altered

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

OTHER_BATCH = "20130201T070000Z-0123abcd"
ROWS: list[dict[str, Any]] = [{"flight": f"F-{number:03}", "seats": number} for number in range(12)]


def put(platform: LoadPlatform, key: str, content: bytes) -> None:
    """Replace an object."""
    platform.aws("s3").put_object(Bucket=platform.deployment.data_bucket, Key=key, Body=content)


def not_json(_platform: LoadPlatform, _written: WrittenBatch) -> bytes:
    """A done file that is not JSON."""
    return b"{"


def lacks_a_field(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A done file without its schema."""
    document = written.document
    del document["schema"]
    return canonical_bytes(document)


def names_another_bucket(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A done file that names another bucket."""
    return altered(written, bucket="another-bucket")


def names_another_prefix(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A part outside the batch's own prefix."""
    (part,) = written.document["json_parts"]
    return altered(written, json_parts=[part | {"key": part["key"].replace(BATCH, OTHER_BATCH)}])


def has_a_path_as_model_name(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A model name that would leave the prefix."""
    return altered(written, model="../other")


def names_delta_files_of_another_batch(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """The Delta commit of another batch, rows and all."""
    other = platform.builder.write(ROWS, batch_id=OTHER_BATCH)
    return altered(written, delta=other.document["delta"])


def mixes_delta_files(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A file of another batch besides the version's own."""
    other = platform.builder.write(ROWS, batch_id=OTHER_BATCH)
    delta = written.document["delta"]
    return altered(written, delta=delta | {"files": [*delta["files"], *other.manifest.delta.files]})


def declares_more_rows(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """More rows than the part has."""
    (part,) = written.document["json_parts"]
    document = written.document
    rows = part["rows"] + 1
    return altered(
        written,
        json_parts=[part | {"rows": rows}],
        row_count=rows,
        delta=document["delta"] | {"rows": rows},
    )


def declares_fewer_rows(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """Fewer rows than the part has."""
    (part,) = written.document["json_parts"]
    delta = written.document["delta"] | {"rows": 3}
    return altered(written, json_parts=[part | {"rows": 3}], row_count=3, delta=delta)


def declares_another_checksum(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """The checksum of different rows."""
    return altered(written, checksum="1")


def names_a_missing_delta_version(_platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A version that the Delta table does not have."""
    return altered(written, delta=written.document["delta"] | {"version": 99})


def lacks_a_part(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A missing part."""
    part = written.manifest.json_parts[0]
    platform.aws("s3").delete_object(Bucket=platform.deployment.data_bucket, Key=part.key)
    return altered(written)


def has_an_altered_part(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A part with other bytes and the same length."""
    part = written.manifest.json_parts[0]
    put(platform, part.key, b"x" * part.bytes)
    return altered(written)


def has_a_shorter_part(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A part of a different length."""
    put(platform, written.manifest.json_parts[0].key, b"x")
    return altered(written)


def has_a_truncated_gzip_part(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A part that matches the manifest but is a truncated gzip file."""
    part = written.document["json_parts"][0]
    content = gzip.compress(b"".join(line.content for line in written.lines[0]))[:-20]
    put(platform, part["key"], content)
    digest = hashlib.sha256(content).hexdigest()
    return altered(written, json_parts=[part | {"bytes": len(content), "sha256": digest}])


def lacks_a_delta_file(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A missing Delta file."""
    platform.delete_delta_file(written.manifest.delta.files[0])
    return altered(written)


def has_a_truncated_delta_file(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A Delta file whose length differs from the log."""
    put(platform, f"{delta_table_prefix(platform.model)}{written.manifest.delta.files[0]}", b"PAR1")
    return altered(written)


def commits_other_rows(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A Delta commit that lacks a row of the parts."""
    version, files = platform.builder.commit(BATCH, written.lines[0][1:])
    delta = written.document["delta"] | {"version": version, "files": files}
    return altered(written, delta=delta)


def commits_an_altered_row(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A Delta commit of as many rows, one with another checksum."""
    lines = list(written.lines[0])
    lines[0] = lines[0]._replace(checksum=lines[0].checksum ^ 1)
    version, files = platform.builder.commit(BATCH, lines)
    return altered(written, delta=written.document["delta"] | {"version": version, "files": files})


def needs_more_than_parquet(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A Delta table that plain Parquet readers cannot read."""
    platform.builder.raise_protocol()
    version, files = platform.builder.commit(BATCH, written.lines[0])
    return altered(written, delta=written.document["delta"] | {"version": version, "files": files})


def change_log_entry(platform: LoadPlatform, written: WrittenBatch, *actions: str) -> bytes:
    """Add actions to the log entry of the batch's commit."""
    bucket = platform.deployment.data_bucket
    key = f"{delta_table_prefix(platform.model)}_delta_log/{written.manifest.delta.version:020d}.json"
    content = platform.aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    put(platform, key, b"\n".join([content, *(action.encode() for action in actions)]))
    return altered(written)


def has_a_broken_log_entry(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A commit with a file whose size is out of range."""
    return change_log_entry(platform, written, '{"add":{"path":"a.parquet","size":1e999}}')


def removes_file_of_another_batch(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A commit that removes another batch from the table."""
    other = platform.builder.write(ROWS, batch_id=OTHER_BATCH)
    version, files = platform.builder.commit(BATCH, written.lines[0])
    delta = written.manifest.delta
    mine = replace(written, manifest=replace(written.manifest, delta=replace(delta, version=version)))
    path = other.manifest.delta.files[0]
    change_log_entry(platform, mine, f'{{"remove":{{"path":"{path}","dataChange":true}}}}')
    return altered(mine, delta=mine.document["delta"] | {"files": files})


def has_a_corrupt_checkpoint(platform: LoadPlatform, written: WrittenBatch) -> bytes:
    """A log with an invalid checkpoint."""
    platform.builder.checkpoint()
    version = written.manifest.delta.version
    put(
        platform,
        f"{delta_table_prefix(platform.model)}_delta_log/{version:020d}.checkpoint.parquet",
        b"PAR1" * 100,
    )
    return altered(written)


FAULTS = [
    (not_json, "not valid JSON"),
    (lacks_a_field, "schema is missing"),
    (names_another_bucket, "bucket is another-bucket"),
    (names_another_prefix, "json_parts[0].key is not under"),
    (has_a_path_as_model_name, "model is wrong"),
    (names_delta_files_of_another_batch, "rows of other batches"),
    (mixes_delta_files, "does not add the files that the manifest names"),
    (declares_more_rows, "has 12 rows, but the manifest declares 13"),
    (declares_fewer_rows, "has more than the 3 rows"),
    (declares_another_checksum, "the manifest declares 1"),
    (names_a_missing_delta_version, "no log entry for version 99"),
    (lacks_a_part, "is missing"),
    (has_an_altered_part, "has SHA-256"),
    (has_a_shorter_part, "has 1 bytes"),
    (has_a_truncated_gzip_part, "is not an intact gzip file"),
    (lacks_a_delta_file, "is missing"),
    (has_a_truncated_delta_file, "has 4 bytes"),
    (commits_other_rows, "hold 11 rows, but the manifest declares 12"),
    (commits_an_altered_row, "rows with checksum"),
    (needs_more_than_parquet, "needs reader 3 and writer 7"),
    (has_a_broken_log_entry, "cannot be read in line"),
    (removes_file_of_another_batch, "removes 1 files that may hold rows of other batches"),
    (has_a_corrupt_checkpoint, "log of the Delta table cannot be read"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_invalid_batch_is_refused(
    platform: LoadPlatform,
    load: Load,
    fault: Callable[[LoadPlatform, WrittenBatch], bytes],
    reason: str,
) -> None:
    """The error, the registry and the report state the reason, and neither store holds a row."""
    written = platform.builder.write(ROWS)
    content = fault(platform, written)
    platform.builder.put_manifest(written.manifest.key, content)
    digest = claimed_digest(content)
    arguments = platform.claim(written, digest=digest)
    with pytest.raises(BatchRefusedError, match=f"{platform.model}/{BATCH}") as raised:
        load(arguments)
    record, report = platform.record(), platform.report(arguments)
    assert reason in raised.value.what
    assert reason in (record.refusal_reason or "")
    assert reason in (report.reason or "")
    assert (record.load_state, record.claim_token, report.status) == ("refused", None, "refused")
    assert record.writing_begun_at is None
    assert report.evidence() is None
    assert platform.stores() == ({}, [])


def claimed_digest(content: bytes) -> str:
    """Return the digest under which a done file is registered: of its bytes if it is not a manifest."""
    try:
        return parse_manifest(content).digest
    except InvalidManifestError:
        return hashlib.sha256(content).hexdigest()


def test_corrected_batch_loads_after_refusal(platform: LoadPlatform, load: Load) -> None:
    """After a refusal other batches load, and so does a corrected done file of the same batch."""
    written = platform.builder.write(ROWS)
    wrong = lacks_a_field(platform, written)
    platform.builder.put_manifest(written.manifest.key, wrong)
    with pytest.raises(BatchRefusedError):
        load(platform.claim(written, digest=claimed_digest(wrong)))
    other = platform.builder.write(ROWS, batch_id=OTHER_BATCH)
    assert load(platform.claim(other)).status == "loaded"
    platform.builder.put_manifest(written.manifest.key, written.manifest.to_bytes())
    assert load(platform.claim(written)).status == "loaded"
    assert len(platform.online()) == len(platform.warehouse()) == len(ROWS)
    assert len(platform.online(OTHER_BATCH)) == len(ROWS)


def test_batch_with_restored_part_loads_after_refusal(platform: LoadPlatform, load: Load) -> None:
    """The same done file is delivered again once its missing part is restored."""
    written = platform.builder.write(ROWS)
    part, bucket = written.manifest.json_parts[0].key, platform.deployment.data_bucket
    content = platform.aws("s3").get_object(Bucket=bucket, Key=part)["Body"].read()
    lacks_a_part(platform, written)
    with pytest.raises(BatchRefusedError, match="is missing"):
        load(platform.claim(written))
    put(platform, part, content)
    arguments = platform.claim(written, redelivered=True)
    assert platform.record().refusal_reason is None
    assert load(arguments).status == "loaded"
    assert len(platform.online()) == len(platform.warehouse()) == len(ROWS)


def test_replaced_done_file_fails_the_load(platform: LoadPlatform, load: Load) -> None:
    """A done file that changed since the claim fails the load and frees the claim without a refusal."""
    written = platform.builder.write(ROWS)
    arguments = platform.claim(written)
    platform.builder.put_manifest(written.manifest.key, altered(written, model_version="2"))
    with pytest.raises(LoadFailedError, match="claimed for"):
        load(arguments)
    record = platform.record()
    assert (record.load_state, record.claim_token, record.refusal_reason) == ("done", None, None)
    assert platform.report(arguments).status == "failed"


def test_verified_batch_is_never_refused(platform: LoadPlatform, load: Load) -> None:
    """A part that is lost after verification fails a further load, and the batch stays verified."""
    written = platform.builder.write(ROWS)
    report = load(platform.claim(written))
    evidence = report.evidence()
    assert evidence is not None
    now = datetime.now(UTC)
    platform.registry.carry_out(
        lambda: verify_load(platform.record(), evidence, now=now, retention=timedelta(days=1))
    )
    before = platform.stores()
    lacks_a_part(platform, written)
    with pytest.raises(LoadFailedError, match="is missing"):
        load(platform.claim(written))
    record = platform.record()
    assert (record.load_state, record.claim_token) == ("verified", None)
    assert platform.stores() == before


def test_missing_table_fails_the_load(platform: LoadPlatform, load: Load) -> None:
    """A load without its table fails with the batch's name and frees the claim; the next load succeeds."""
    written = platform.builder.write(ROWS)
    wrong = replace(platform.claim(written), online_table="no-such-table")
    with pytest.raises(LoadFailedError, match=f"{platform.model}/{BATCH}: The load failed: 12 items"):
        load(wrong)
    assert platform.record().claim_token is None
    assert platform.warehouse() == []
    assert load(platform.claim(written)).status == "loaded"
    assert len(platform.online()) == len(ROWS)
