"""Pipes over S3 like dagster-aws, but under one prefix, without leftover objects and without idle waits.

The objects of a killed run are deleted by the run that adopts its job, or else by the bucket's lifecycle
rule.
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
    """Deletes the context's object even if the step fails, unlike dagster-aws.

    The object stays only if the job keeps running, because the job may not have read it yet.
    """

    def __init__(self, *, bucket: str, client: Any) -> None:
        super().__init__(bucket=bucket, client=client, key_prefix=PIPES_PREFIX)
        self._others: set[str] = set()

    def delete_at_end(self, encoded: str | None) -> None:
        """Delete another session's object together with this session's.

        Args:
            encoded: Pipes' parameter of a job that the other session started.
        """
        if key := _decoded(encoded, self.bucket).get("key"):
            self._others.add(str(key))

    @contextmanager
    def inject_context(self, context: Any) -> Iterator[dict[str, Any]]:
        """Store the context in an object for the duration of the session."""
        # Kept short: SageMaker allows 256 characters per variable, and the key is passed encoded.
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
    """Stores messages under the platform's prefix, and deletes them once they are read.

    dagster-aws waits ten seconds for a job that has sent no message. That is unnecessary: S3 shows an object
    as soon as it is written, and a job writes all messages before it ends.
    """

    def __init__(self, *, bucket: str, client: Any, interval: float = 2.0) -> None:
        super().__init__(bucket=bucket, client=client, interval=interval)
        self._next: dict[str, int] = {}

    def follow(self, encoded: str | None) -> None:
        """Also read another session's messages from the first one on, and delete them in the end.

        Args:
            encoded: Pipes' parameter of a job that the other session started.
        """
        if prefix := _decoded(encoded, self.bucket).get("key_prefix"):
            self._next.setdefault(str(prefix), 1)

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Choose a prefix for the session's messages, and pass messages on until the session ends."""
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
                # The run that adopts the job reads the messages from the first one on.
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
            # Checked before reading, so that messages written just before the end are read, too.
            is_last_round = ended.is_set()
            for prefix in tuple(self._next):
                # A transient error must not end the reading: the next round continues here.
                with suppress(BotoCoreError, ClientError):
                    self._read_next(handler, prefix)
            if is_last_round:
                return
            ended.wait(self.interval)

    def _read_next(self, handler: Any, prefix: str) -> None:
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
        # At worst small objects remain, which must not fail a completed job.
        with suppress(BotoCoreError, ClientError):
            for page in pages:
                for item in page.get("Contents", ()):
                    self.client.delete_object(Bucket=self.bucket, Key=item["Key"])


def _decoded(encoded: str | None, bucket: str) -> Mapping[str, Any]:
    """Return Pipes' parameter; empty unless it names our own objects, because these are deleted later."""
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
    """Yield the messages in a chunk's lines; other lines are skipped."""
    for line in chunk.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and _VERSION_MEMBER in message:
            yield message
