"""dagster-aws's Pipes over S3, under one prefix, without leaving objects behind and without idle waits.

What a killed run leaves is deleted by the run that adopts its job; what nobody adopts, by the bucket's own
lifecycle.
"""

from __future__ import annotations

import json
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dagster_aws.pipes import PipesS3ContextInjector, PipesS3MessageReader
from dagster_pipes import decode_param

from mlpipe_dagster.job_clients.job_errors import JobApiError
from prediction_contract.naming.s3_layout import PIPES_PREFIX

_VERSION_MEMBER = "__dagster_pipes_version"
_JOIN_SECONDS = 60


class TidyContextInjector(PipesS3ContextInjector):
    """Deletes the context's object also when the step fails, which dagster-aws's own leaves there.

    It stays only for a job that is left running, which may not have read it yet.
    """

    def __init__(self, *, bucket: str, client: Any) -> None:
        super().__init__(bucket=bucket, client=client, key_prefix=PIPES_PREFIX)
        self._others: set[str] = set()

    def delete_in_the_end(self, encoded: str | None) -> None:
        """Delete another session's object with the present one's.

        Args:
            encoded: Pipes' parameter of a job that the other session has started.
        """
        if key := _decoded(encoded, self.bucket).get("key"):
            self._others.add(str(key))

    @contextmanager
    def inject_context(self, context: Any) -> Iterator[dict[str, Any]]:
        """Put the context into an object for as long as the session lasts."""
        # Short: SageMaker takes 256 characters of a variable, and this goes there encoded.
        key = f"{PIPES_PREFIX}{uuid.uuid4().hex}/context.json"
        self.client.put_object(Body=json.dumps(context).encode(), Bucket=self.bucket, Key=key)
        try:
            yield {"bucket": self.bucket, "key": key}
        except JobApiError:
            self._others.clear()
            raise
        except BaseException:
            self._delete(key)
            raise
        self._delete(key)

    def _delete(self, key: str) -> None:
        for each in (key, *self._others):
            with suppress(BotoCoreError, ClientError):
                self.client.delete_object(Bucket=self.bucket, Key=each)
        self._others.clear()


class TidyMessageReader(PipesS3MessageReader):
    """Keeps messages under the platform's prefix, and deletes them once they are read.

    dagster-aws's own waits ten seconds after a job that has sent none. S3 shows an object as soon as it is
    written, and a job writes its messages before it ends: whatever is not there then will never be.
    """

    def __init__(self, *, bucket: str, client: Any, interval: float = 2.0) -> None:
        super().__init__(bucket=bucket, client=client, interval=interval)
        self._next: dict[str, int] = {}

    def follow(self, encoded: str | None) -> None:
        """Read another session's messages too, from the first on, and delete them in the end.

        Args:
            encoded: Pipes' parameter of a job that the other session has started.
        """
        if prefix := _decoded(encoded, self.bucket).get("key_prefix"):
            self._next.setdefault(str(prefix), 1)

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Name a prefix for one session's messages, and pass them on until the session ends."""
        prefix = f"{PIPES_PREFIX}{uuid.uuid4().hex}"
        self._next = {prefix: 1}
        ended = threading.Event()
        reading = threading.Thread(target=self._read_all, args=(handler, ended), daemon=True)
        goes_on = False
        with self.get_params() as params:
            reading.start()
            try:
                yield {**params, "key_prefix": prefix}
            except JobApiError:
                # Whoever adopts the job reads them from the first on.
                goes_on = True
                raise
            finally:
                ended.set()
                reading.join(_JOIN_SECONDS)
                if not goes_on:
                    for each in self._next:
                        self._delete(f"{each}/")

    def _read_all(self, handler: Any, ended: threading.Event) -> None:
        while True:
            # Asked before the look, so that what was written until the end is seen.
            is_last_look = ended.is_set()
            for prefix in tuple(self._next):
                # Trouble that passes must not end the reading: the next look goes on where this one stopped.
                with suppress(BotoCoreError, ClientError):
                    self._read_on(handler, prefix)
            if is_last_look:
                return
            ended.wait(self.interval)

    def _read_on(self, handler: Any, prefix: str) -> None:
        while (chunk := self._chunk(f"{prefix}/{self._next[prefix]}.json")) is not None:
            self._next[prefix] += 1
            for message in _messages(chunk):
                handler.handle_message(message)

    def _chunk(self, key: str) -> str | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
        except self.client.exceptions.NoSuchKey:
            return None

    def _delete(self, prefix: str) -> None:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        # Small objects are left at worst; a job that completed must not fail for them.
        with suppress(BotoCoreError, ClientError):
            for page in pages:
                for item in page.get("Contents", ()):
                    self.client.delete_object(Bucket=self.bucket, Key=item["Key"])


def _decoded(encoded: str | None, bucket: str) -> Mapping[str, Any]:
    """Return Pipes' parameter if it names objects of ours, else nothing: what it names is deleted."""
    if encoded is None:
        return {}
    try:
        decoded = decode_param(encoded)
    except (ValueError, zlib.error):
        return {}
    named = decoded.get("key", decoded.get("key_prefix")) if isinstance(decoded, Mapping) else None
    is_ours = isinstance(named, str) and named.startswith(PIPES_PREFIX) and decoded.get("bucket") == bucket
    return decoded if is_ours else {}


def _messages(chunk: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of a chunk's lines; other lines are none of ours."""
    for line in chunk.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and _VERSION_MEMBER in message:
            yield message
