"""How a load treats a broken Delta log, and failures of S3."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from glue_scripts.errors import BatchFaultError
from glue_scripts.files import delta_check
from glue_scripts.files.delta_check import committed_files, opened_table
from prediction_contract.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator


def entry(*actions: Any) -> bytes:
    """Return a log entry of these actions; text is a raw line."""
    lines = [action if isinstance(action, str) else json.dumps(action) for action in actions]
    return "\n".join(lines).encode()


def add(path: str | None = "a.parquet", **members: Any) -> dict[str, Any]:
    """Return the action that adds a file."""
    return {"add": {"path": path, "partitionValues": {}, "size": 7, "dataChange": True, **members}}


def test_commit_lists_added_and_removed_files() -> None:
    """Paths are decoded, and actions other than add and remove are ignored."""
    content = entry({"commitInfo": {}}, add("a%20b.parquet"), {"remove": {"path": "c.parquet"}}, "")
    files = committed_files(content)
    assert (files.added, files.removed) == ({"a b.parquet": 7}, {"c.parquet"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (entry('{"add":{"path":"a.parquet","size":1e999}}'), "line 1: add.size: A number's exponent"),
        (entry(add(size=-1)), "no size"),
        (entry(add(size=1.5)), "no size"),
        (entry(add(size=True)), "no size"),
        (entry(add(size=2**63)), "no size"),
        (entry(add(path=None)), "no path"),
        (entry('{"add":{"path":"a.parquet","size":1,"size":2}}'), 'names "size" twice'),
        (
            entry('{"add":{"path":"a.parquet","size":1},"add":{"path":"b.parquet","size":1}}'),
            'names "add" twice',
        ),
        (entry({**add(), "remove": {"path": "b.parquet"}}), "no single action"),
        (entry("[1]"), "no single action"),
        (entry('{"add":1}'), "no single action"),
        (entry(add(), add()), "a.parquet twice"),
        (entry(add(), {"remove": {"path": "a.parquet"}}), "a.parquet twice"),
        (entry(add("a%2Eparquet"), add()), "a.parquet twice"),
        (entry(add(deletionVector={"storageType": "u"})), "deletion vector"),
        (entry("[" * 100_000), "line 1: The document nests too deep"),
        (b"\xff", "not UTF-8"),
        (entry(add(), "garbage"), "line 2: Not JSON"),
    ],
)
def test_broken_log_entry_refuses_the_batch(content: bytes, reason: str) -> None:
    """A broken log entry is an error of the batch, since it would fail each load."""
    with pytest.raises(SchemaError, match=reason):
        committed_files(content)


def test_log_entry_size_is_checked_before_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log entry with too many bytes or values is refused before it fills the memory."""
    monkeypatch.setattr(delta_check, "MAX_VALUES", 50)
    assert committed_files(entry(*[add(f"{number}.parquet") for number in range(8)])).added
    with pytest.raises(SchemaError, match="up to 51 values, but only 50 are allowed"):
        committed_files(entry({"x": [1] * 49}))
    monkeypatch.setattr(delta_check, "MAX_BYTES", 100)
    with pytest.raises(SchemaError, match="more than 100 bytes"):
        committed_files(b" " * 101)


class FolderAsS3(SimpleHTTPRequestHandler):
    """Serves the buckets in a folder as S3 does, and responds with 503 for a checkpoint on request."""

    fails = False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as in the base class
        """Log nothing."""

    def do_GET(self) -> None:
        """Respond to a listing or an object request."""
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if "list-type" in asked:
            self.send(200, self.listing(address.path, asked["prefix"], asked.get("start-after", "")))
        elif self.fails and address.path.endswith(".checkpoint.parquet"):
            self.send(503, b"<Error><Code>SlowDown</Code></Error>")
        elif (file := Path(self.translate_path(self.path))).is_file():
            self.send(200, file.read_bytes())
        else:
            self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def listing(self, bucket: str, prefix: str, after: str) -> bytes:
        """List the objects of a bucket."""
        root = Path(self.translate_path(bucket))
        files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<Size>{file.stat().st_size}</Size></Contents>"
            for key, file in sorted(files.items())
            if key.startswith(prefix) and key > after
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()

    def send(self, status: int, content: bytes) -> None:
        """Send a response with the requested range."""
        whole = len(content)
        first, last = 0, whole
        if status == 200 and (asked := self.headers.get("Range")):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first = int(start) if start else whole - int(end)
            last = min(int(end) + 1, whole) if start and end else whole
            status = 206
        self.send_response(status)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", str(last - first))
        self.send_header("Content-Range", f"bytes {first}-{last - 1}/{whole}")
        self.end_headers()
        self.wfile.write(content[first:last])


@contextmanager
def served(folder: Path, *, fails: bool = False) -> Iterator[dict[str, str]]:
    """Serve a folder's buckets, and yield deltalake's options for them."""
    handler = type("Handler", (FolderAsS3,), {"fails": fails})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
            "max_retries": "0",
        }
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table whose log has a checkpoint."""
    path = tmp_path / "bucket" / "table"
    for _ in range(2):
        write_deltalake(path, pa.table({"batch_id": ["x"]}), mode="append")
    DeltaTable(path).create_checkpoint()
    return path


def open_table(options: dict[str, str]) -> DeltaTable:
    """Open the table as a load does."""
    return opened_table("s3://bucket/table", 1, options, model="m", batch_id="b")


def test_corrupt_checkpoint_refuses_the_batch(table: Path, tmp_path: Path) -> None:
    """A corrupt checkpoint is an error of the batch, else its load would fail again and again."""
    with served(tmp_path) as options:
        assert open_table(options).version() == 1
        (checkpoint,) = (table / "_delta_log").glob("*.checkpoint.parquet")
        checkpoint.write_bytes(b"PAR1" * 100)
        with pytest.raises(
            BatchFaultError, match=r"m/b: The log of the Delta table cannot be read .* version 1"
        ):
            open_table(options)


def test_s3_failure_does_not_refuse_the_batch(table: Path, tmp_path: Path) -> None:
    """An S3 failure is not taken for a broken log, though deltalake raises similar errors for both."""
    assert table.exists()
    with served(tmp_path, fails=True) as options, pytest.raises(DeltaError, match="503"):
        open_table(options)
    with pytest.raises(OSError, match="S3"):
        open_table({**options, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
