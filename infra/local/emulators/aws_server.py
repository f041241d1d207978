"""Serve AWS's protocols with ministack, and add limits and rules of AWS that it lacks.

Runs in the environment `stack`, the only one that has its packages.
"""

# pyright: reportMissingImports=false
# ruff: noqa: SLF001 -- ministack has no other place to step in

from __future__ import annotations

import json
import secrets
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, router
from ministack.services import alb, dynamodb, s3

from prediction_contract.limits import (
    MAX_BATCH_READ_BYTES,
    MAX_BATCH_WRITE_BYTES,
    MAX_DELETED_OBJECTS,
    MAX_OBJECT_KEY_BYTES,
)

_NOT_FOUND = 404
_serve_dynamodb = dynamodb.handle_request
_serve_s3 = s3.handle_request
_get_items = dynamodb._batch_get_item
_put_object = s3._put_object
_delete_objects = s3._delete_objects
_forward = alb._forward_to_tg
_action_of = iam_actions.extract_iam_action


def _etag_of_a_put(_content: bytes) -> str:
    """Return a unique ETag, because with SSE-KMS equal bytes get a new ETag at each put."""
    return secrets.token_hex(16)


async def _limited_dynamodb(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Any:
    """Refuse a BatchWriteItem that is larger than DynamoDB allows."""
    is_write = headers.get("x-amz-target", "").endswith(".BatchWriteItem")
    if is_write and len(body) > MAX_BATCH_WRITE_BYTES:
        message = f"The request has {len(body)} bytes of {MAX_BATCH_WRITE_BYTES}"
        return dynamodb.error_response_json("ValidationException", message, 400)
    return await _serve_dynamodb(method, path, headers, body, query)


def _limited_items(request: dict[str, Any]) -> Any:
    """Answer a BatchGetItem of one table with the items that fit, and list the other keys as unprocessed."""
    answer = _get_items(request)
    if len(answer[2]) <= MAX_BATCH_READ_BYTES:
        return answer
    ((table, wanted),) = request["RequestItems"].items()
    keys = wanted["Keys"]
    middle = len(keys) // 2
    status, headers, content = _limited_items(
        {**request, "RequestItems": {table: {**wanted, "Keys": keys[:middle]}}}
    )
    fitting = json.loads(content)
    left = fitting["UnprocessedKeys"].get(table, {"Keys": []})["Keys"] + keys[middle:]
    fitting["UnprocessedKeys"] = {table: {**wanted, "Keys": left}}
    return status, headers, json.dumps(fitting).encode()


async def _limited_s3(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any], **more: Any
) -> Any:
    """Refuse Signature Version 2, as with KMS keys; answer 403 for missing keys if listing is not allowed."""
    if "AWSAccessKeyId" in query:
        message = "Requests specifying Server Side Encryption with AWS KMS managed keys require "
        return s3._error("InvalidArgument", f"{message}AWS Signature Version 4.", 400)
    answer = await _serve_s3(method, path, headers, body, query, **more)
    if app.AUTH and answer[0] == _NOT_FOUND and not _may_list(path, headers, query):
        return s3._error("AccessDenied", "Access Denied", 403)
    return answer


def _authorized_action(service: str, *request: Any) -> str | None:
    """Return the action that authorises a request; for SQS's batch requests the action on a single message.

    Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    """
    action = _action_of(service, *request)
    return action.removesuffix("Batch") if service == "sqs" and action else action


def _may_list(path: str, headers: dict[str, str], query: dict[str, Any]) -> bool:
    """Return whether a caller may list the bucket; statements with a condition on the prefix do not count.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    denied = iam_evaluator.enforce(
        router.extract_access_key_id(headers, query),
        "s3:ListBucket",
        "s3",
        router.extract_region(headers, query),
        resource_arn=f"arn:aws:s3:::{path.split('/')[1]}",
    )
    return denied is None


def _limited_put(bucket: str, key: str, body: bytes, headers: dict[str, str]) -> Any:
    """Refuse an object whose key is longer than S3 allows."""
    if len(key.encode()) > MAX_OBJECT_KEY_BYTES:
        return s3._error("KeyTooLongError", "Your key is too long", 400)
    return _put_object(bucket, key, body, headers)


def _limited_delete(bucket: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    """Refuse to delete more objects in one request than S3 allows."""
    if body.count(b"<Key>") > MAX_DELETED_OBJECTS:
        return s3._error("MalformedXML", f"More than {MAX_DELETED_OBJECTS} keys", 400)
    return _delete_objects(bucket, body, headers)


async def _forward_raw_path(group: str, method: str, path: str, *more: Any) -> Any:
    """Forward path and query still encoded, with all values of repeated names, like a load balancer."""
    headers, body, query, sent_query, sent_path = more
    if sent_query is not None:
        query = {}
        for pair in filter(None, sent_query.split("&")):
            name, _, value = pair.partition("=")
            query.setdefault(name, []).append(value)
    return await _forward(group, method, sent_path or path, headers, body, query, sent_query, sent_path)


# In ministack 1.5.33 S3 uses MD5 only for the ETags of objects and parts.
s3.md5_hash = _etag_of_a_put
s3.handle_request = _limited_s3
s3._put_object = _limited_put
s3._delete_objects = _limited_delete
dynamodb.handle_request = _limited_dynamodb
dynamodb._batch_get_item = _limited_items
alb._forward_to_tg = _forward_raw_path
iam_actions.extract_iam_action = _authorized_action

if __name__ == "__main__":
    app.main()
