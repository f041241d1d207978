"""DynamoDB, S3 and SQS with only boto3 and the environment; ends with a traceback if a check fails."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

import boto3
from botocore.exceptions import ClientError

QUIET_RECEIVES = 2
ARRIVAL_SECONDS = 60


def error_code(call: Any, **arguments: Any) -> str:
    """Return the error code of a call that must fail."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} was not refused: {arguments}")


def item(number: int) -> dict[str, Any]:
    """Return one item of the table."""
    return {"entity": {"S": f"flight-{number:03}"}, "batch": {"S": "b1"}, "delay": {"N": str(number)}}


def key(number: int) -> dict[str, Any]:
    """Return the key of that item."""
    return {name: item(number)[name] for name in ("entity", "batch")}


def use_dynamodb() -> None:
    """Check put, get, batch limits, a condition, and an atomic transaction."""
    client = boto3.client("dynamodb")
    table = f"plain-{uuid.uuid4().hex}"
    names = ("entity", "batch")
    client.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    client.put_item(TableName=table, Item=item(0))
    assert client.get_item(TableName=table, Key=key(0), ConsistentRead=True)["Item"] == item(0)

    puts = [{"PutRequest": {"Item": item(number)}} for number in range(101)]
    refused = error_code(client.batch_write_item, RequestItems={table: puts[:26]})
    assert refused == "ValidationException", refused
    assert client.scan(TableName=table)["Count"] == 1, "a refused batch left items behind"
    for start in range(0, 101, 25):
        answer = client.batch_write_item(RequestItems={table: puts[start : start + 25]})
        assert answer["UnprocessedItems"] == {}, answer
    keys = [key(number) for number in range(101)]
    refused = error_code(client.batch_get_item, RequestItems={table: {"Keys": keys}})
    assert refused == "ValidationException", refused
    got = client.batch_get_item(RequestItems={table: {"Keys": keys[:100], "ConsistentRead": True}})
    found = sorted(got["Responses"][table], key=lambda one: one["entity"]["S"])
    assert found == [item(number) for number in range(100)], found

    unless_there = {"TableName": table, "ConditionExpression": "attribute_not_exists(entity)"}
    refused = error_code(client.put_item, **unless_there, Item=item(0) | {"delay": {"N": "-1"}})
    assert refused == "ConditionalCheckFailedException", refused
    assert client.get_item(TableName=table, Key=key(0))["Item"] == item(0)

    def both(new: int) -> dict[str, Any]:
        changed = item(0) | {"delay": {"N": "7"}}
        puts = [{"TableName": table, "Item": changed}, {**unless_there, "Item": item(new)}]
        return {"TransactItems": [{"Put": put} for put in puts]}

    refused = error_code(client.transact_write_items, **both(1))
    assert refused == "TransactionCanceledException", refused
    assert client.get_item(TableName=table, Key=key(0))["Item"] == item(0), "half a transaction was applied"
    client.transact_write_items(**both(200))
    assert client.get_item(TableName=table, Key=key(0))["Item"]["delay"] == {"N": "7"}
    assert client.get_item(TableName=table, Key=key(200))["Item"] == item(200)
    client.delete_table(TableName=table)


def use_s3() -> None:
    """Check put, get, list and conditional puts."""
    client = boto3.client("s3")
    bucket, prefix = os.environ["MLPIPE_DATA_BUCKET"], f"scratch/{uuid.uuid4().hex}/"
    for number in range(3):
        client.put_object(Bucket=bucket, Key=f"{prefix}{number}", Body=b"x" * number)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=2)
    assert [(one["Key"], one["Size"]) for one in listed["Contents"]] == [(f"{prefix}{n}", n) for n in (0, 1)]
    assert listed["IsTruncated"]

    target = {"Bucket": bucket, "Key": f"{prefix}once"}
    first = client.put_object(**target, Body=b"first", IfNoneMatch="*")
    refused = error_code(client.put_object, **target, Body=b"second", IfNoneMatch="*")
    assert refused == "PreconditionFailed", refused
    assert client.get_object(**target)["Body"].read() == b"first"
    client.put_object(**target, Body=b"second", IfMatch=first["ETag"])
    refused = error_code(client.put_object, **target, Body=b"third", IfMatch=first["ETag"])
    assert refused == "PreconditionFailed", refused
    assert client.get_object(**target)["Body"].read() == b"second"


def notice_a_done_file() -> None:
    """Check that one put of a done file gives exactly one message in the queue."""
    queue = boto3.client("sqs")
    url = os.environ["MLPIPE_DONE_QUEUE_URL"]
    done_file = f"done/2013-02-01/flight_delay/{uuid.uuid4().hex}.json"
    boto3.client("s3").put_object(Bucket=os.environ["MLPIPE_DATA_BUCKET"], Key=done_file, Body=b"{}")
    seen: list[str] = []
    quiet = 0
    deadline = time.monotonic() + ARRIVAL_SECONDS
    # A second message would come within milliseconds of the first: two receives of 2 s wait for it.
    while done_file not in seen or quiet < QUIET_RECEIVES:
        assert time.monotonic() < deadline, f"{done_file} did not arrive, only {seen}"
        messages = queue.receive_message(QueueUrl=url, WaitTimeSeconds=2, MaxNumberOfMessages=10).get(
            "Messages", []
        )
        quiet = 0 if messages else quiet + 1
        for message in messages:
            seen.append(json.loads(message["Body"])["detail"]["object"]["key"])
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert seen.count(done_file) == 1, seen


if __name__ == "__main__":
    use_dynamodb()
    use_s3()
    notice_a_done_file()
