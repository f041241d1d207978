"""dagster-aws's Pipes over S3, under one prefix and without leaving objects behind."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_aws.pipes import PipesS3ContextInjector, PipesS3MessageReader

PIPES_PREFIX = "pipes/"


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
            self.client.delete_object(Bucket=self.bucket, Key=key)


class TidyMessageReader(PipesS3MessageReader):
    """Keeps messages under the platform's prefix, and deletes them once they are read."""

    def __init__(self, *, bucket: str, client: Any, interval: float = 2.0) -> None:
        super().__init__(bucket=bucket, client=client, interval=interval)

    @contextmanager
    def get_params(self) -> Iterator[dict[str, Any]]:
        """Name a prefix for one session's messages."""
        with super().get_params() as params:
            prefix = f"{PIPES_PREFIX}{uuid.uuid4().hex}"
            try:
                yield {**params, "key_prefix": prefix}
            finally:
                pages = self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=f"{prefix}/"
                )
                for page in pages:
                    for item in page.get("Contents", ()):
                        self.client.delete_object(Bucket=self.bucket, Key=item["Key"])
