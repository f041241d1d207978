"""dagster-aws's Pipes over S3, under one prefix, without leaving objects behind and without idle waits."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dagster_aws.pipes import PipesS3ContextInjector, PipesS3MessageReader

PIPES_PREFIX = "pipes/"
_VERSION_MEMBER = "__dagster_pipes_version"
_JOIN_SECONDS = 60


class TidyContextInjector(PipesS3ContextInjector):
    """Deletes the context's object also when the step fails, which dagster-aws's own leaves there."""

    def __init__(self, *, bucket: str, client: Any) -> None:
        super().__init__(bucket=bucket, client=client, key_prefix=PIPES_PREFIX)

    @contextmanager
    def inject_context(self, context: Any) -> Iterator[dict[str, Any]]:
        """Put the context into an object for as long as the session lasts."""
        # Short: SageMaker takes 256 characters of a variable, and this goes there encoded.
        key = f"{PIPES_PREFIX}{uuid.uuid4().hex}/context.json"
        self.client.put_object(Body=json.dumps(context).encode(), Bucket=self.bucket, Key=key)
        try:
            yield {"bucket": self.bucket, "key": key}
        finally:
            with suppress(BotoCoreError, ClientError):
                self.client.delete_object(Bucket=self.bucket, Key=key)


class TidyMessageReader(PipesS3MessageReader):
    """Keeps messages under the platform's prefix, and deletes them once they are read.

    dagster-aws's own waits ten seconds after a job that has sent none. S3 shows an object as soon as it is
    written, and a job writes its messages before it ends: whatever is not there then will never be.
    """

    def __init__(self, *, bucket: str, client: Any, interval: float = 2.0) -> None:
        super().__init__(bucket=bucket, client=client, interval=interval)

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Name a prefix for one session's messages, and pass them on until the session ends."""
        prefix = f"{PIPES_PREFIX}{uuid.uuid4().hex}"
        ended = threading.Event()
        reading = threading.Thread(
            target=self._read_all, args=(handler, {"key_prefix": prefix}, ended), daemon=True
        )
        with self.get_params() as params:
            reading.start()
            try:
                yield {**params, "key_prefix": prefix}
            finally:
                ended.set()
                reading.join(_JOIN_SECONDS)
                self._delete(f"{prefix}/")

    def _read_all(self, handler: Any, params: dict[str, Any], ended: threading.Event) -> None:
        number = 1
        while True:
            # Asked before the look, so that what was written until the end is seen.
            is_last_look = ended.is_set()
            # Trouble that passes must not end the reading: the next look goes on where this one stopped.
            with suppress(BotoCoreError, ClientError):
                while (chunk := self.download_messages_chunk(number, params)) is not None:
                    number += 1
                    for message in _messages(chunk):
                        handler.handle_message(message)
            if is_last_look:
                return
            ended.wait(self.interval)

    def _delete(self, prefix: str) -> None:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        # Small objects are left at worst; a job that completed must not fail for them.
        with suppress(BotoCoreError, ClientError):
            for page in pages:
                for item in page.get("Contents", ()):
                    self.client.delete_object(Bucket=self.bucket, Key=item["Key"])


def _messages(chunk: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of a chunk's lines; other lines are none of ours."""
    for line in chunk.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and _VERSION_MEMBER in message:
            yield message
