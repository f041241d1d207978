"""Concurrent Delta commits to the local S3 lose nothing, because its conditional puts work."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from arro3.core import Array, DataType, Table
from deltalake import DeltaTable, QueryBuilder, write_deltalake

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.stack_runs import LocalStack

PROCESSES = 4
APPENDS = 5
ROWS = 10

WRITER = f"""
import json, sys
from arro3.core import Array, DataType, Table
from deltalake import CommitProperties, write_deltalake
uri, writer, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for append in range({APPENDS}):
    columns = [[writer] * {ROWS}, [append] * {ROWS}, list(range({ROWS}))]
    arrays = [Array(column, type=DataType.int64()) for column in columns]
    table = Table.from_arrays(arrays, names=["writer", "append", "row"])
    write_deltalake(uri, table, mode="append", storage_options=options,
                    commit_properties=CommitProperties(max_commit_retries=100))
"""


@pytest.mark.stack
def test_concurrent_commits_lose_no_rows(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> None:
    """Every append of four concurrent processes is in the table, as a separate version."""
    aws_client("s3").create_bucket(Bucket="concurrent-commits")
    uri = "s3://concurrent-commits/table"
    options = {
        "AWS_ENDPOINT_URL": local_stack.environment["AWS_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": local_stack.environment["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": local_stack.environment["AWS_SECRET_ACCESS_KEY"],
        "AWS_REGION": local_stack.environment["AWS_REGION"],
        "AWS_ALLOW_HTTP": "true",
        "conditional_put": "etag",
    }
    # The table exists before the writers start, so they all compete for the next log entry.
    column = Array([-1], type=DataType.int64())
    first = Table.from_arrays([column, column, column], names=["writer", "append", "row"])
    write_deltalake(uri, first, storage_options=options)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, str(number), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        # All writers have finished their imports and start at the same time.
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            _, errors = writer.communicate(timeout=120)
            assert writer.returncode == 0, errors
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(timeout=10)

    table = DeltaTable(uri, storage_options=options)
    query = 'SELECT "writer", "append", "row" FROM committed WHERE "writer" >= 0'
    rows = QueryBuilder().register("committed", table).execute(query).read_all()
    found = sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    assert found == list(itertools.product(range(PROCESSES), range(APPENDS), range(ROWS)))
    assert table.version() == PROCESSES * APPENDS
