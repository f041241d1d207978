"""A million done files in memory behind the wire protocols of S3, SQS and DynamoDB; counts all calls."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from prediction_contract.manifests.manifest import JsonPart, build_manifest
from prediction_contract.naming.s3_layout import done_key, done_prefix, json_part_key
from prediction_contract.rows.schema import Column, ColumnType, PredictionSchema

BUCKET = "canned"
MODEL = "things"
PARTITION = "2013-02-01"
PAGE = 1000
_PUT_AT = datetime(2026, 11, 23, 1, tzinfo=UTC)
_SCHEMA = PredictionSchema((Column("entity_id", ColumnType.parse("string"), nullable=False),), "entity_id")


@dataclass
class CannedDoneFiles:
    """Done files of many days, and counts of the requests for them.

    Attributes:
        today: The newest day.
        history: The total number of files.
        per_day: The number of files of each day.
        answer_seconds: A delay added to each answer, like a network's.
        refused: The names of calls to refuse.
        unlisted: The days whose listing is refused.
    """

    today: date
    history: int
    per_day: int
    answer_seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Create the files' keys."""
        days = -(-self.history // self.per_day)
        for back in range(days - 1, -1, -1):
            day = self.today - timedelta(days=back)
            # Like `done_key`, which would take most of a minute for a million keys.
            prefix = f"{done_prefix(day)}{MODEL}/{day:%Y%m%d}T010203Z-"
            self.keys += [f"{prefix}{number:08x}.json" for number in range(self.per_day)]

    def add(self, count: int, *, tell: bool) -> list[str]:
        """Add files of today and return their keys; if `tell`, the queue gets a message about each file."""
        day = f"{self.today:%Y%m%d}"
        first = len(self.keys)
        added = [done_key(MODEL, f"{day}T020304Z-{first + number:08x}") for number in range(count)]
        self.keys += added
        self.messages += added if tell else []
        return added

    def page(self, prefix: str, after: str) -> tuple[list[str], bool]:
        """Return up to a thousand keys below a prefix, and whether there are more."""
        start = bisect_right(self.keys, max(after, prefix))
        found = self.keys[start : start + PAGE + 1]
        kept = [key for key in found if key.startswith(prefix)]
        return kept[:PAGE], len(kept) > PAGE

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve on a local port for the duration of the context, and yield the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"canned": self}))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def manifest_bytes(key: str) -> bytes:
    """Return a valid manifest of a key's batch."""
    batch_id = key.rpartition("/")[2].removesuffix(".json")
    part = JsonPart(json_part_key(MODEL, PARTITION, batch_id, 1, share="part", number=0), 3, 100, "a" * 64)
    return build_manifest(
        model=MODEL,
        batch_id=batch_id,
        attempt=1,
        partition=PARTITION,
        bucket=BUCKET,
        created_at=_PUT_AT,
        model_version="v1",
        code_version="c1",
        schema=_SCHEMA,
        json_parts=[part],
        delta_version=1,
        delta_files=[f"part-{batch_id}.parquet"],
        checksum="12345",
    ).to_bytes()


class _Handler(BaseHTTPRequestHandler):
    """Answers the sensor's requests; fails on any other."""

    canned: CannedDoneFiles
    protocol_version = "HTTP/1.1"
    # Sends an answer as one packet, like the real services.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a listing or return a file."""
        address = urlsplit(self.path)
        options = {name: values[0] for name, values in parse_qs(address.query).items()}
        if options.get("list-type") == "2":
            self.canned.calls["ListObjectsV2"] += 1
            is_unlisted = any(f"/{day}/" in options.get("prefix", "") for day in self.canned.unlisted)
            if is_unlisted or "ListObjectsV2" in self.canned.refused:
                body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                self._answer(body, "application/xml", status=403)
                return
            self._answer(self._listing(options), "application/xml")
        else:
            self.canned.calls["GetObject"] += 1
            self._answer(manifest_bytes(self._key()), "application/json", _dates())

    def do_HEAD(self) -> None:
        """Describe a file."""
        self.canned.calls["HeadObject"] += 1
        self._answer(b"", "application/json", {"ETag": f'"{_etag(self._key())}"', **_dates()})

    def do_POST(self) -> None:
        """Answer SQS and DynamoDB: each message is delivered once, no record exists, all changes succeed."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        self.canned.calls[action] += 1
        if action in self.canned.refused:
            body = json.dumps({"__type": "AccessDeniedException", "message": "Access Denied"}).encode()
            self._answer(body, "application/x-amz-json-1.0", status=403)
            return
        answers: dict[str, Any] = {
            "ReceiveMessage": self._received,
            "DeleteMessageBatch": lambda: {"Successful": [], "Failed": []},
            "GetItem": dict,
            "TransactWriteItems": dict,
        }
        self._answer(json.dumps(answers[action]()).encode(), "application/x-amz-json-1.0")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Log nothing."""

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")

    def _listing(self, options: dict[str, str]) -> bytes:
        after = options.get("continuation-token") or options.get("start-after", "")
        keys, more = self.canned.page(options.get("prefix", ""), after)
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_PUT_AT:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<ETag>&quot;{_etag(key)}&quot;</ETag><Size>900</Size><StorageClass>STANDARD</StorageClass>"
            "</Contents>"
            for key in keys
        )
        token = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(keys)}</KeyCount>{token}{rows}"
            "</ListBucketResult>"
        ).encode()

    def _received(self) -> dict[str, Any]:
        taken, self.canned.messages[:10] = self.canned.messages[:10], []
        bodies = [
            json.dumps({"source": "aws.s3", "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}}})
            for key in taken
        ]
        return {
            "Messages": [
                {
                    "MessageId": str(number),
                    "ReceiptHandle": str(number),
                    "Body": body,
                    "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
                }
                for number, body in enumerate(bodies)
            ]
        }

    def _answer(
        self, body: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200
    ) -> None:
        time.sleep(self.canned.answer_seconds)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _etag(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _dates() -> dict[str, str]:
    return {"Last-Modified": f"{_PUT_AT:%a, %d %b %Y %H:%M:%S GMT}"}
