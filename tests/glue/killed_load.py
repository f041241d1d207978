"""The load script, killed right after a given step; runs as a separate process.

`killed_load.py STEP NUMBER ARGUMENTS...` ends by SIGKILL right after the answer to the NUMBERth request of
the step: the operation of a DynamoDB request, the first word of a Snowflake statement, or `PUT <prefix>` of
an S3 key.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from botocore.httpsession import URLLib3Session
from snowflake.connector.cursor import SnowflakeCursor

from glue_scripts.dynamodb.concurrent_requests import ConcurrentRequests
from glue_scripts.load_predictions import main

_LOCK = threading.Lock()


class Killer:
    """Counts the responses to the requests of one step."""

    def __init__(self, step: str, number: int) -> None:
        self._step = step
        self._left = number

    def answered(self, step: str) -> None:
        """Kill this process if this was the last request to wait for."""
        with _LOCK:
            self._left -= step == self._step
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def install(killer: Killer) -> None:
    """Let the killer see each response of AWS and Snowflake."""
    send, execute, wait = URLLib3Session.send, SnowflakeCursor.execute, ConcurrentRequests.wait_finished

    def watched_send(session: Any, request: Any) -> Any:
        answer = send(session, request)
        target = request.headers.get("X-Amz-Target", b"")
        target = target.decode() if isinstance(target, bytes) else target
        if target.startswith("DynamoDB"):
            killer.answered(target.partition(".")[2])
        elif request.method == "PUT":
            killer.answered(f"PUT {urlsplit(request.url).path.split('/')[2]}")
        return answer

    def watched_execute(cursor: Any, command: str, *arguments: Any, **options: Any) -> Any:
        answer = execute(cursor, command, *arguments, **options)
        killer.answered(command.split(maxsplit=1)[0])
        return answer

    def watched_finished(requests: Any, timeout: float) -> Any:
        finished = wait(requests, timeout)
        for _ in finished:
            killer.answered("BatchWriteItem")
        return finished

    patch.object(ConcurrentRequests, "wait_finished", watched_finished).start()
    patch.object(URLLib3Session, "send", watched_send).start()
    patch.object(SnowflakeCursor, "execute", watched_execute).start()


if __name__ == "__main__":
    install(Killer(sys.argv[1], int(sys.argv[2])))
    main(sys.argv[3:])
