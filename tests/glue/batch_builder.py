"""Batches as the score job writes them: JSON parts, one Delta commit, and the manifest last."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, TableFeatures, write_deltalake

from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.manifests.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.naming.s3_layout import delta_table_prefix, json_part_key
from prediction_contract.rows.checksums import batch_checksum, refused_checksum
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.delta_table import delta_columns
from prediction_contract.text.canonical_json import canonical_bytes
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARTITION = "2013-02-01"
BATCH = "20130201T060000Z-0123abcd"
CONTRACT = row_contract(FULL_SCHEMA)
_ARROW = {
    "string": pa.string(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "decimal(38,10)": pa.decimal128(38, 10),
    "decimal(38,0)": pa.decimal128(38, 0),
}


@dataclass(frozen=True)
class WrittenBatch:
    """A batch on S3.

    Attributes:
        manifest: The original manifest.
        lines: Its lines, part by part.
    """

    manifest: Manifest
    lines: list[list[PredictionLine]]

    @property
    def batch_id(self) -> str:
        """The batch's id."""
        return self.manifest.batch_id

    @property
    def document(self) -> dict[str, Any]:
        """A copy of the manifest's JSON, for tests to alter."""
        return json.loads(self.manifest.to_bytes())


class BatchBuilder:
    """Writes batches of one model.

    Args:
        s3: A boto3 client.
        bucket: The platform's bucket.
        model: The model's name.
        options: What deltalake needs to reach the bucket.
    """

    def __init__(self, s3: Any, bucket: str, model: str, options: Mapping[str, str]) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.model = model
        self._options = dict(options)
        self._table = f"s3://{bucket}/{delta_table_prefix(model).rstrip('/')}"

    def write(
        self,
        *parts: Sequence[Mapping[str, Any] | bytes],
        batch_id: str = BATCH,
        attempt: int = 1,
        several_files: bool = False,
    ) -> WrittenBatch:
        """Write a batch and its manifest.

        Args:
            parts: The rows of each part; bytes are a raw line, which the real writers would not produce.
            batch_id: The batch.
            attempt: The scoring's attempt.
            several_files: Whether Delta gets more than one file, which takes some tens of rows.
        """
        lines = [[_line(row) for row in part] for part in parts]
        written = [self._put_part(batch_id, attempt, number, part) for number, part in enumerate(lines)]
        committed = [line for part in lines for line in part]
        version, files = self.commit(batch_id, committed, several_files=several_files)
        manifest = build_manifest(
            model=self.model,
            batch_id=batch_id,
            attempt=attempt,
            partition=PARTITION,
            bucket=self.bucket,
            created_at=datetime(2013, 2, 1, 6, tzinfo=UTC),
            model_version="1",
            code_version="1",
            schema=FULL_SCHEMA,
            json_parts=written,
            delta_version=version,
            delta_files=files,
            checksum=batch_checksum(line.checksum for part in lines for line in part),
        )
        self.put_manifest(manifest.key, manifest.to_bytes())
        return WrittenBatch(manifest, lines)

    def put_manifest(self, key: str, content: bytes) -> None:
        """Deliver a done file."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def commit(
        self, batch_id: str, lines: Sequence[PredictionLine], *, several_files: bool = False
    ) -> tuple[int, list[str]]:
        """Commit lines to the Delta table; return the version and the files it added."""
        fields = {name: _ARROW[kind] for name, kind in delta_columns(FULL_SCHEMA).items()}
        columns = {name: [_stored(name, line, batch_id) for line in lines] for name in fields}
        table = pa.table(columns, schema=pa.schema(list(fields.items())))
        write_deltalake(
            self._table,
            pa.Table.from_batches(table.to_batches(max_chunksize=10)) if several_files else table,
            mode="overwrite",
            predicate=f"batch_id = '{batch_id}'",
            storage_options=self._options,
            target_file_size=1 if several_files else None,
        )
        version = DeltaTable(self._table, storage_options=self._options).version()
        key = f"{delta_table_prefix(self.model)}_delta_log/{version:020d}.json"
        log = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        actions = [json.loads(action) for action in log.splitlines()]
        return version, [unquote(action["add"]["path"]) for action in actions if "add" in action]

    def raise_protocol(self) -> None:
        """Give the Delta table a feature that plain Parquet readers do not know."""
        table = DeltaTable(self._table, storage_options=self._options)
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)

    def checkpoint(self) -> None:
        """Write a checkpoint of the Delta table's newest version."""
        DeltaTable(self._table, storage_options=self._options).create_checkpoint()

    def _put_part(
        self, batch_id: str, attempt: int, number: int, lines: Sequence[PredictionLine]
    ) -> JsonPart:
        key = json_part_key(self.model, PARTITION, batch_id, attempt, share="part", number=number)
        content = gzip.compress(b"".join(line.content for line in lines), mtime=0)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return JsonPart(key, len(lines), len(content), hashlib.sha256(content).hexdigest())


def altered(written: WrittenBatch, **members: Any) -> bytes:
    """Return the done file with changed members."""
    return canonical_bytes(written.document | members)


def _line(row: Mapping[str, Any] | bytes) -> PredictionLine:
    if isinstance(row, bytes):
        return PredictionLine(row + b"\n", refused_checksum(row), "as it stands", None)
    return prediction_line(CONTRACT, row)


def _stored(name: str, line: PredictionLine, batch_id: str) -> Any:
    """Return a line's value in a Delta column, or what the column can hold of a line that is not a row."""
    if name == "batch_id":
        return batch_id
    if name == "row_checksum":
        return line.checksum
    if line.row is None:
        return delta_values(FULL_SCHEMA, line.content).get(name)
    return line.row.texts[CONTRACT.column_names.index(name)] if name == "reasons" else line.row.values[name]
