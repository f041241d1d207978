"""Measures one way to write a part into DynamoDB, in a process of its own.

    python -m benchmarks.load_clients CLIENT part|rows|survey PART

CLIENT is `mlpipe`, `boto3` or `awswrangler`. PART is a JSON file with address, bucket, key, path, rows and
schema. `survey` measures mlpipe's pass over all lines and keys before the first write. The last line of
standard output is a JSON object: items, CPU seconds, wall-clock seconds, peak memory. Imports and the
creation of clients are not measured; with `rows`, neither is the parsing.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from benchmarks.canned.canned_load_store import TABLE

BATCH = "20130201T060000Z-0123abcd"
EXPIRY = 1_900_000_000


def _plain_items(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield items as others would write them: each line parsed without loss, with our three attributes."""
    with gzip.open(part["path"]) as lines:
        for line in lines:
            item = json.loads(line, parse_float=Decimal)
            item["entity_id"] = item.pop(part["schema"]["key"])
            item |= {"batch_id": BATCH, "expires_at": EXPIRY}
            yield item


def write_by_boto3(part: dict[str, Any], kind: str) -> Callable[[], int]:
    """Write with boto3's `batch_writer`."""
    import boto3  # noqa: PLC0415  # each process imports its own client

    dynamodb: Any = boto3.resource("dynamodb")
    table = dynamodb.Table(TABLE)
    rows = list(_plain_items(part)) if kind == "rows" else None

    def write() -> int:
        written = 0
        with table.batch_writer() as writer:
            for item in rows or _plain_items(part):
                writer.put_item(Item=item)
                written += 1
        return written

    return write


def write_by_awswrangler(part: dict[str, Any], kind: str) -> Callable[[], int]:
    """Write with awswrangler's `put_items`."""
    import awswrangler  # type: ignore[reportMissingImports]  # noqa: PLC0415  # in an environment of its own

    rows = list(_plain_items(part)) if kind == "rows" else None

    def write() -> int:
        items = rows or list(_plain_items(part))
        awswrangler.dynamodb.put_items(items=items, table_name=TABLE)
        return len(items)

    return write


def write_by_mlpipe(part: dict[str, Any], kind: str) -> Callable[[], int]:
    """Write like the Glue job; `part` includes the fetch from S3, its SHA-256 and the check of every row."""
    from glue_scripts import aws_clients  # noqa: PLC0415  # each process imports its own client
    from glue_scripts.dynamodb import dynamodb_endpoint, online_load  # noqa: PLC0415
    from glue_scripts.files import survey  # noqa: PLC0415
    from glue_scripts.files.part_lines import PartSource, accepted_rows  # noqa: PLC0415
    from prediction_contract.manifests.manifest import JsonPart  # noqa: PLC0415
    from prediction_contract.rows.schema import PredictionSchema  # noqa: PLC0415

    json_part = JsonPart(part["key"], part["rows"], part["bytes"], part["sha256"])
    schema = PredictionSchema.from_document(part["schema"])
    source = PartSource("flight_delay", BATCH, part["bucket"], json_part, schema)
    task = online_load.OnlineTask(source, TABLE, EXPIRY, None, "full")
    if kind == "survey":
        return lambda: survey.survey_part(survey.PartTask(source, 10)).read.rows
    aws_clients.client("s3")
    dynamodb_endpoint.default_endpoint()
    if kind == "part":
        return lambda: online_load.write_part(task).acknowledged.rows
    rows = list(accepted_rows(source, aws_clients.client("s3")))
    return lambda: online_load.write_rows(task, rows).acknowledged.rows


CLIENTS = {"mlpipe": write_by_mlpipe, "boto3": write_by_boto3, "awswrangler": write_by_awswrangler}


def main(client: str, kind: str, path: str) -> None:
    """Measure and print."""
    write = CLIENTS[client](json.loads(Path(path).read_text()), kind)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    items = write()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured = {"items": items, "cpu_s": cpu, "wall_s": wall, "peak_mb": after.ru_maxrss / 1024}
    sys.stdout.write(f"{json.dumps(measured)}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
