"""Tests of the done file: building, parsing, refusals and its published JSON Schema."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from prediction_contract.errors import InvalidManifestError, SchemaError, UnsupportedManifestVersionError
from prediction_contract.manifests.manifest import (
    MANIFEST_BYTES,
    MANIFEST_VALUES,
    InputObject,
    Inputs,
    JsonPart,
    Manifest,
    ModelPackage,
    Producer,
    build_manifest,
    manifest_json_schema,
    parse_manifest,
    validate,
)
from prediction_contract.manifests.manifest_reader import DIGEST_PATTERN, LONGEST_TEXT
from prediction_contract.naming import batch
from prediction_contract.naming.s3_layout import (
    BUCKET_PATTERN,
    HIGHEST_VERSION,
    KEY_SEGMENT_PATTERN,
    json_part_key,
)
from prediction_contract.rows.schema import COLUMN_PATTERN, LARGEST_SCHEMA_BYTES, ColumnType, Kind
from prediction_contract.text.canonical_json import canonical_json
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "mlpipe-data"
BATCH = "20130201T060000Z-0123abcd"
KEY = f"done/2013-02-01/flight_delay/{BATCH}.json"
SHA = "0" * 64
PACKAGE = {
    "arn": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/flight-delay/7",
    "version": 7,
    "digest": "v1",
    "approved_by": "anna",
}
VALIDATOR = Draft202012Validator(manifest_json_schema())


def manifest(**changes: Any) -> Manifest:
    """Return a manifest of two parts."""
    parts = [
        JsonPart(
            json_part_key("flight_delay", "2013-02-01", BATCH, 1, share="part", number=number), rows, 10, SHA
        )
        for number, rows in enumerate((3, 4))
    ]
    arguments: dict[str, Any] = {
        "model": "flight_delay",
        "batch_id": BATCH,
        "attempt": 1,
        "partition": "2013-02-01",
        "bucket": BUCKET,
        "created_at": datetime(2013, 2, 1, 6, 1, tzinfo=UTC),
        "model_version": "v1",
        "code_version": "abc",
        "schema": FULL_SCHEMA,
        "json_parts": parts,
        "delta_version": 4,
        "delta_files": ["part-0.parquet"],
        "checksum": "18446744073709551615",
        "previous_batch_id": "20130131T060000Z-0123abcd",
        "inputs": Inputs((InputObject("features/x.parquet", SHA),), InputObject("models/m.skops", SHA)),
        "producer": Producer("predict-1", None),
    }
    return build_manifest(**(arguments | changes))


def changed(path: str, value: Any) -> bytes:
    """Return a manifest's content with one member replaced, or removed if the value is `...`."""
    document: dict[str, Any] = copy.deepcopy(manifest().to_document())
    *parents, name = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = document
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(document).encode()


def test_manifest_round_trip() -> None:
    """A manifest survives writing and parsing; its rows are summed, and its digest is that of the bytes."""
    built = manifest()
    content = built.to_bytes()
    parsed = parse_manifest(content)
    assert parsed == built
    assert (built.row_count, built.delta.rows, built.key) == (7, 7, KEY)
    assert parsed.digest == hashlib.sha256(content).hexdigest()
    validate(parsed, bucket=BUCKET, key=KEY)
    VALIDATOR.validate(json.loads(content))


def test_input_in_another_bucket_keeps_its_bucket() -> None:
    """Only an input outside the batch's bucket names its bucket, so older manifests keep their digest."""
    elsewhere = InputObject("features/x.parquet", SHA, "acme-features")
    content = manifest(inputs=Inputs((elsewhere,), InputObject("models/m.skops", SHA))).to_bytes()
    parsed = parse_manifest(content)
    assert parsed.inputs.features == (elsewhere,)
    assert parsed.to_bytes() == content
    assert json.loads(content)["inputs"]["model_artifact"] == {"key": "models/m.skops", "sha256": SHA}
    VALIDATOR.validate(json.loads(content))


def test_model_package_round_trip() -> None:
    """The model package survives writing and parsing, and a manifest without one omits the member."""
    package = ModelPackage(**PACKAGE)
    content = manifest(model_package=package).to_bytes()
    parsed = parse_manifest(content)
    assert parsed.model_package == package
    assert parsed.to_bytes() == content
    assert json.loads(content)["model_package"] == PACKAGE
    assert "model_package" not in manifest().to_document()
    later = parse_manifest(changed("model_package", {**PACKAGE, "image": "sha256:0"}))
    assert later.to_document()["model_package"] == {**PACKAGE, "image": "sha256:0"}
    for document in (content, later.to_bytes()):
        VALIDATOR.validate(json.loads(document))


def test_digest_ignores_formatting() -> None:
    """Whitespace and the order of members do not change the digest, but a different value does."""
    document = manifest().to_document()
    formatted = json.dumps(dict(reversed(document.items())), indent=2).encode()
    assert parse_manifest(formatted).digest == manifest().digest
    assert parse_manifest(changed("code_version", "abd")).digest != manifest().digest


@pytest.mark.parametrize(
    "path",
    ["new", "inputs.new", "inputs.features.0.new", "schema.new", "schema.columns.1.new", "json_parts.0.new",
     "delta.new", "producer.new"],
)  # fmt: skip
def test_unknown_members_are_kept(path: str) -> None:
    """Members that a later minor version added survive parsing and writing unchanged."""
    content = changed(path, {"big": 12345678901234567890123})
    parsed = parse_manifest(content)
    assert json.loads(parsed.to_bytes()) == json.loads(content)
    VALIDATOR.validate(json.loads(content))


def test_later_major_version_is_refused() -> None:
    """A later minor version is read; a later major version and malformed versions are refused."""
    assert parse_manifest(changed("manifest_version", "1.7")).manifest_version == "1.7"
    for content in (changed("manifest_version", "2.0"), b'{"manifest_version":"2.0"}'):
        with pytest.raises(UnsupportedManifestVersionError, match=r"2\.0"):
            parse_manifest(content)
    for version in ("1", "1.0.0", "01.0", "x", 1):
        with pytest.raises(InvalidManifestError) as refusal:
            parse_manifest(changed("manifest_version", version))
        assert type(refusal.value) is InvalidManifestError


FAULTS: list[tuple[str, Any]] = [
    *((name, ...) for name in VALIDATOR.schema["required"]),  # type: ignore[index]  # the schema is an object
    ("model", "../etc"),
    ("model", 7),
    ("batch_id", "x"),
    ("attempt", 0),
    ("attempt", "1"),
    ("attempt", True),
    ("partition", "today"),
    ("bucket", "s3://x"),
    ("bucket", "a..b"),
    ("created_at", "2013-02-01"),
    ("model_version", ""),
    ("model_version", "v" * 257),
    ("code_version", "a\nb"),
    ("previous_batch_id", "x"),
    ("inputs", []),
    ("inputs.features", {}),
    ("inputs.features.0.key", "../x"),
    ("inputs.features.0.bucket", "a..b"),
    ("inputs.features.0.bucket", None),
    ("inputs.model_artifact", "models/m"),
    ("schema.columns", []),
    ("schema.columns.0.type", "text"),
    ("schema.columns.0.name", "Flight"),
    ("json_parts", {}),
    ("json_parts.0", "key"),
    ("json_parts.0.key", "predictions//x"),
    ("json_parts.0.rows", -1),
    ("json_parts.0.bytes", 1.5),
    ("json_parts.0.rows", 2**63),
    ("json_parts.0.key", f"predictions/flight_delay/json/dt=2013-02-01/batch={BATCH}/*"),
    ("json_parts.0.key", f"predictions/flight_delay/json/dt=2013-02-01/batch={BATCH}/%2e%2e/part"),
    ("json_parts.0.sha256", "0" * 63),
    ("json_parts.0.sha256", "A" * 64),
    ("delta.table", "/predictions/flight_delay/delta/"),
    ("delta.version", -1),
    ("delta.files.0", "../other/part-0.parquet"),
    ("delta.files.0", "s3://bucket/part?.parquet"),
    ("delta.files.0", "_delta_log/0.parquet"),
    ("delta.files.0", "x/_delta_log/0.parquet"),
    ("delta.files.0", "_change_data/part-0.parquet"),
    ("delta.files.0", ".parquet"),
    ("delta.files.0", "part-0.csv"),
    ("delta.files.0", "it's.parquet"),
    ("row_count", None),
    ("checksum", 5),
    ("checksum", "-1"),
    ("producer", None),
    ("producer.job_name", ""),
    ("model_package", None),
    *(
        ("model_package", {k: v for k, v in PACKAGE.items() if k != name})
        for name in ("arn", "version", "digest")
    ),
    *(("model_package", {**PACKAGE, "version": number}) for number in (0, HIGHEST_VERSION + 1, "7", True)),
    ("model_package", {**PACKAGE, "approved_by": "a\nb"}),
]


@pytest.mark.parametrize(("path", "value"), FAULTS)
def test_invalid_member_is_named_and_fails_json_schema(path: str, value: Any) -> None:
    """Parser and JSON Schema refuse an invalid member, and the error names the member and the batch."""
    content = changed(path, value)
    with pytest.raises(InvalidManifestError) as refusal:
        parse_manifest(content)
    top = path.partition(".")[0]
    assert top in refusal.value.what
    if top not in {"model", "batch_id"}:
        assert (refusal.value.model, refusal.value.batch_id) == ("flight_delay", BATCH)
    assert not VALIDATOR.is_valid(json.loads(content))


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("bucket", "another-bucket", "bucket"),
        ("model", "other_model", "is at"),
        ("batch_id", "20130201T060001Z-0123abcd", "is at"),
        ("partition", "2013-02-02", "is not under"),
        ("previous_batch_id", BATCH, "the batch itself"),
        ("json_parts.0.key", "predictions/other_model/json/part-0.jsonl.gz", "is not under"),
        (
            "json_parts.0.key",
            f"predictions/flight_delay/json/dt=2013-02-01/batch={BATCH[:-1]}e/p",
            "is not under",
        ),
        (
            "json_parts.1.key",
            json_part_key("flight_delay", "2013-02-01", BATCH, 1, share="part", number=0),
            "named twice",
        ),
        ("json_parts.0.rows", 4, "row_count is 7"),
        ("row_count", 8, "json_parts have 7"),
        ("delta.table", "predictions/other_model/delta/", "own table"),
        ("delta.files", ["a.parquet", "a.parquet"], "twice"),
        ("delta.files", [], "empty"),
        ("delta.files", ["f" * 986 + ".parquet"], r"delta.files\[0\] makes a key of more than 1024 bytes"),
        ("delta.rows", 8, "delta.rows is 8"),
        (
            "model_package",
            {**PACKAGE, "digest": "v2"},
            r"model_package.digest is v2, but model_version is v1",
        ),
    ],
)
def test_inconsistent_manifest_is_refused(path: str, value: Any, fault: str) -> None:
    """A manifest that contradicts itself or names foreign files is refused, and the error says why."""
    parsed = parse_manifest(changed(path, value))
    with pytest.raises(InvalidManifestError, match=fault):
        validate(parsed, bucket=BUCKET, key=KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":NaN}',
        b'{"a":1,"a":1}',
        b"\xff",
        b"[" * 100_000,
        b" " * (MANIFEST_BYTES + 1),
        manifest().to_bytes()[:-1] + b',"x":"\\ud800"}',
        manifest().to_bytes()[:-1] + b',"x":' + b"[" * 900 + b"]" * 900 + b"}",
        manifest().to_bytes()[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}",
        manifest().to_bytes()[:-1] + b',"x":' + b"9" * 5000 + b"}",
        changed("row_count", "?").replace(b'"?"', b"1e1000000"),
        changed("row_count", "?").replace(b'"?"', b"-1e99999999999"),
    ],
    ids=["empty", "list", "cut", "nan", "doubled", "utf8", "deep", "large", "surrogate", "nested", "a level",
         "digits", "exponent", "negative exponent"],
)  # fmt: skip
def test_malformed_manifest_is_refused(content: bytes) -> None:
    """Malformed, oversized or deeply nested content is refused as an invalid manifest."""
    with pytest.raises(InvalidManifestError):
        parse_manifest(content)


@pytest.mark.parametrize(
    "member",
    [b'{"":{}}', b"1", b'""', b"1e9"],
    ids=["objects", "numbers", "texts", "exponents"],
)
def test_number_of_values_is_limited(member: bytes) -> None:
    """A manifest with too many small values is refused, even if it is small enough in bytes."""
    count = MANIFEST_VALUES
    content = manifest().to_bytes()[:-1] + b',"x":[' + b",".join([member] * count) + b"]}"
    assert len(content) < MANIFEST_BYTES
    with pytest.raises(InvalidManifestError, match=f"values; at most {MANIFEST_VALUES} are allowed"):
        parse_manifest(content)


def test_integer_of_more_than_309_digits_is_refused() -> None:
    """Longer integers are refused, because the time to convert them grows with the square of their digits."""
    start = manifest().to_bytes()[:-1]
    assert parse_manifest(start + b',"x":-' + b"9" * 309 + b"}").extra == {"x": 1 - 10**309}
    with pytest.raises(InvalidManifestError, match="more than 309 digits"):
        parse_manifest(start + b',"x":' + b"9" * 310 + b"}")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["manifest_version", "model", "schema", "columns", "delta", "key"]), inner)))  # fmt: skip
def test_other_json_documents_are_refused(document: Any) -> None:
    """Any JSON document that is not a manifest raises `InvalidManifestError`."""
    with pytest.raises(InvalidManifestError):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize(
    "build",
    [
        lambda: manifest(delta_files=["../x.parquet"]),
        lambda: manifest(delta_files=[]),
        lambda: manifest(checksum="x"),
        lambda: manifest(attempt=0),
        lambda: manifest(bucket="Bucket"),
        lambda: manifest(partition="2013-02-02"),
    ],
)
def test_invalid_manifest_is_not_built(build: Callable[[], Manifest]) -> None:
    """A producer gets the error before it writes an invalid done file."""
    with pytest.raises(InvalidManifestError):
        build()


def test_equal_counts_have_one_digest() -> None:
    """7, 7.0 and 70e-1 are the same count and give the same digest."""
    spelled = [changed("row_count", "?").replace(b'"?"', text) for text in (b"7", b"7.0", b"70e-1")]
    assert {parse_manifest(content).digest for content in spelled} == {manifest().digest}


def test_oversized_schema_and_version_are_refused() -> None:
    """A model version or schema at its limit is accepted; a longer one is refused."""
    assert parse_manifest(changed("model_version", "v" * 256)).model_version == "v" * 256
    room = LARGEST_SCHEMA_BYTES - len(canonical_json({**FULL_SCHEMA.to_document(), "note": ""}))
    assert parse_manifest(changed("schema.note", "n" * room)).schema.extra == {"note": "n" * room}
    with pytest.raises(InvalidManifestError, match=r"model_version .* 257 characters, not 1 to 256"):
        parse_manifest(changed("model_version", "v" * 257))
    with pytest.raises(InvalidManifestError, match=f"schema has {LARGEST_SCHEMA_BYTES + 1} bytes"):
        parse_manifest(changed("schema.note", "n" * (room + 1)))


@pytest.mark.parametrize("text", [*(kind for kind in Kind if kind is not Kind.DECIMAL), "decimal(38,6)"])
def test_json_schema_accepts_every_column_type(text: str) -> None:
    """The published JSON Schema accepts each type that the code can parse."""
    assert re.search(_published_type_pattern(), str(ColumnType.parse(text)))


@pytest.mark.parametrize("text", ["decimal", "decimal(0,0)", "decimal(38)", "text", "Long", "long64"])
def test_json_schema_refuses_an_unknown_column_type(text: str) -> None:
    """The published JSON Schema and the code both refuse an unknown type."""
    assert not re.search(_published_type_pattern(), text)
    with pytest.raises(SchemaError):
        ColumnType.parse(text)


def _published_type_pattern() -> str:
    columns = manifest_json_schema()["properties"]["schema"]["properties"]["columns"]
    return columns["items"]["properties"]["type"]["pattern"]


def test_json_schema_uses_the_patterns_of_the_code() -> None:
    """The published JSON Schema is valid and uses the patterns and limits of the code."""
    schema = manifest_json_schema()
    Draft202012Validator.check_schema(schema)
    members, shared = schema["properties"], schema["$defs"]
    assert members["model"]["pattern"] == f"^{batch.MODEL_PATTERN}$"
    assert members["partition"]["pattern"] == f"^{batch.PARTITION_PATTERN}$"
    assert shared["bucket"]["pattern"] == f"^{BUCKET_PATTERN}$"
    assert shared["batch_id"]["pattern"] == f"^{batch.BATCH_ID_PATTERN}$"
    assert shared["key"]["pattern"] == f"^{KEY_SEGMENT_PATTERN}(/{KEY_SEGMENT_PATTERN})*$"
    assert shared["column_name"]["pattern"] == f"^{COLUMN_PATTERN}$"
    assert shared["sha256"]["pattern"] == f"^{DIGEST_PATTERN}$"
    assert members["model_version"]["maxLength"] == batch.LONGEST_MODEL_VERSION
    assert shared["text"]["maxLength"] == LONGEST_TEXT
    assert members["model_package"]["properties"]["version"]["maximum"] == HIGHEST_VERSION
