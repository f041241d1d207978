"""Provisioned resources work together: done-file events, API tokens and the Snowflake connection."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import boto3
import jwt
import pytest
import snowflake.connector
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.definitions import resource_definitions
from infra.local import access_token
from infra.local.stack.environment_file import write_environment_file
from tests.infra.local_servers import DEPLOYMENT, REGION, drain, provision_on, receive

if TYPE_CHECKING:
    from pathlib import Path

    from infra.local.provisioning.clients import Clients
    from tests.infra.local_servers import LocalServers

pytestmark = pytest.mark.stack
ARRIVAL_SECONDS = 30


def received_keys(sqs: Any, url: str, marker: str) -> list[str]:
    """Return the keys of received events until the marker arrived and the queue is empty."""
    keys: list[str] = []
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        messages = receive(sqs, url)
        for message in messages:
            keys.append(json.loads(message["Body"])["detail"]["object"]["key"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        if not messages and marker in keys:
            return keys
        assert time.monotonic() < deadline, f"{marker} did not arrive: {keys}"


def test_only_done_files_reach_the_queue(clients: Clients, variables: dict[str, str]) -> None:
    """A done file produces one message; other files, also under `done/`, produce none."""
    s3, sqs = clients.client("s3"), clients.client("sqs")
    bucket, url = variables["MLPIPE_DATA_BUCKET"], variables["MLPIPE_DONE_QUEUE_URL"]
    drain(sqs, url)
    marker = f"done/2013-02-01/flight_delay/{uuid.uuid4().hex}.json"
    for key in (
        f"predictions/{marker}",
        marker.removesuffix(".json") + ".txt",
        "done/stray.json",
        "done/2013-02-01/stray.json",
    ):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")

    s3.put_object(Bucket=bucket, Key=marker, Body=b"{}")

    assert received_keys(sqs, url, marker) == [marker]


def test_local_stores_enforce_aws_limits(clients: Clients, variables: dict[str, str]) -> None:
    """Requests over 16 MB, keys over 1024 bytes and deletions of over 1000 keys are refused."""
    dynamodb, s3 = clients.client("dynamodb"), clients.client("s3")
    table, bucket = DEPLOYMENT.online_table("flight_delay"), variables["MLPIPE_DATA_BUCKET"]
    puts = [large_put(f"refused-{number}") for number in range(7)]
    with pytest.raises(ClientError, match=r"\(ValidationException\).* of 16000000"):
        dynamodb.batch_write_item(RequestItems={table: puts})
    s3.put_object(Bucket=bucket, Key="raw/".ljust(1024, "k"), Body=b"")
    with pytest.raises(ClientError, match="KeyTooLongError"):
        s3.put_object(Bucket=bucket, Key="raw/".ljust(1025, "k"), Body=b"")
    for keys, refused in ((1000, False), (1001, True)):
        named = {"Objects": [{"Key": f"raw/none-{number}"} for number in range(keys)], "Quiet": True}
        with pytest.raises(ClientError, match="MalformedXML") if refused else nullcontext():
            s3.delete_objects(Bucket=bucket, Delete=named)


def test_large_dynamodb_answer_lists_unprocessed_keys(clients: Clients) -> None:
    """Items that exceed one answer are listed as unprocessed, and repeated requests return them all."""
    dynamodb, table = clients.client("dynamodb"), DEPLOYMENT.online_table("flight_delay")
    puts = [large_put(f"read-{number}") for number in range(8)]
    for some in (puts[:4], puts[4:]):
        dynamodb.batch_write_item(RequestItems={table: some})
    left: Any = {
        table: {"Keys": [online_key(f"read-{number}") for number in range(8)], "ConsistentRead": True}
    }
    answers: list[list[str]] = []
    while left:
        answer = dynamodb.batch_get_item(RequestItems=left)
        answers.append([item["entity_id"]["S"] for item in answer["Responses"][table]])
        left = answer["UnprocessedKeys"]
    assert answers == [[f"read-{number}" for number in some] for some in (range(4), range(4, 8))]


def online_key(entity_id: str) -> dict[str, Any]:
    """Return the key of an item in the online table."""
    return {"entity_id": {"S": entity_id}, "batch_id": {"S": "20130201T060000Z-00000001"}}


def large_put(entity_id: str) -> dict[str, Any]:
    """Return a put of an item of 400 KB, which takes six times as much in a request."""
    return {"PutRequest": {"Item": {**online_key(entity_id), "text": {"S": "\u0001" * 400_000}}}}


def test_each_put_gets_a_new_etag(clients: Clients, variables: dict[str, str]) -> None:
    """Under a KMS key equal bytes get different ETags, as on AWS, and conditional writes use them."""
    s3, key = clients.client("s3"), f"raw/{uuid.uuid4().hex}"
    target = {"Bucket": variables["MLPIPE_DATA_BUCKET"], "Key": key}
    (rule,) = s3.get_bucket_encryption(Bucket=target["Bucket"])["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": DEPLOYMENT.data_key_alias,
    }
    first = s3.put_object(**target, Body=b"same")["ETag"]
    second = s3.put_object(**target, Body=b"same", IfMatch=first)["ETag"]
    assert first != second
    assert s3.head_object(**target)["ETag"] == second
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**target, Body=b"same", IfMatch=first)


def test_provisioning_removes_stray_event_target(
    local_servers: LocalServers, clients: Clients, variables: dict[str, str]
) -> None:
    """A second target added by hand is removed, so that one put produces one message."""
    s3, sqs, events = (clients.client(name) for name in ("s3", "sqs", "events"))
    url = variables["MLPIPE_DONE_QUEUE_URL"]
    drain(sqs, url)
    stray = {"Id": "added-by-hand", "Arn": DEPLOYMENT.done_file_queue_arn}
    events.put_targets(Rule=DEPLOYMENT.done_file_rule, Targets=[stray])

    provision_on(local_servers)

    marker = f"done/2013-02-02/flight_delay/{uuid.uuid4().hex}.json"
    s3.put_object(Bucket=variables["MLPIPE_DATA_BUCKET"], Key=marker, Body=b"{}")
    assert received_keys(sqs, url, marker) == [marker]


def test_only_own_package_events_reach_the_queue(clients: Clients, variables: dict[str, str]) -> None:
    """Package changes of this stage reach the sensor's queue; those of another stage do not."""
    sagemaker, sqs, url = (
        clients.client("sagemaker"),
        clients.client("sqs"),
        variables["MLPIPE_MODEL_EVENTS_QUEUE_URL"],
    )
    drain(sqs, url)
    own, foreign = (f"mlpipe-{stage}-events-{uuid.uuid4().hex[:8]}" for stage in ("local", "other"))
    specification = {"Containers": [{"Image": "jobs", "ModelDataUrl": "s3://b/model.tar.gz"}]}
    for group in (foreign, own):
        sagemaker.create_model_package_group(ModelPackageGroupName=group)
        sagemaker.create_model_package(ModelPackageGroupName=group, InferenceSpecification=specification)
    groups: set[str] = set()
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while own not in groups:
        bodies = [json.loads(message["Body"]) for message in receive(sqs, url)]
        groups |= {body["detail"]["ModelPackageGroupName"] for body in bodies}
        assert time.monotonic() < deadline
    assert groups == {own}
    drain(sqs, url)


@pytest.mark.parametrize(("pipeline", "is_told"), [("0retrain-m", True), ("m", False), ("m-retrain", False)])
@pytest.mark.usefixtures("variables")
def test_rule_matches_only_retraining_executions(clients: Clients, pipeline: str, *, is_told: bool) -> None:
    """The rule leaves out the many executions of scoring pipelines."""
    arn = f"arn:aws:sagemaker:{REGION}:000000000000:pipeline/mlpipe-local-{pipeline}"
    event = {
        "id": "1",
        "account": "000000000000",
        "time": "2021-03-15T16:10:12Z",
        "region": REGION,
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
        "resources": [arn, f"{arn}/execution/e"],
        "detail": {"currentPipelineExecutionStatus": "Succeeded", "pipelineArn": arn},
    }
    events = clients.client("events")
    pattern = events.describe_rule(Name=DEPLOYMENT.model_events_rule)["EventPattern"]
    assert events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"] == is_told


@pytest.mark.parametrize(("version", "status"), [("s3", 400), ("s3v4", 200)])
def test_presigned_urls_need_signature_version_4(
    clients: Clients, variables: dict[str, str], version: str, status: int
) -> None:
    """For objects under KMS keys a URL signed with version 2 is refused, as on AWS."""
    target = {"Bucket": variables["MLPIPE_DATA_BUCKET"], "Key": f"raw/{uuid.uuid4().hex}"}
    clients.client("s3").put_object(**target, Body=b"log")
    signer = boto3.client(
        "s3",
        endpoint_url=clients.aws,
        region_name=clients.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(signature_version=version, s3={"addressing_style": "path"}),
    )
    answer = urllib3.PoolManager().request("GET", signer.generate_presigned_url("get_object", Params=target))
    assert (answer.status, b"Signature Version 4" in answer.data) == (status, status == 400)


def test_unhandled_message_moves_to_dead_letter_queue(clients: Clients, variables: dict[str, str]) -> None:
    """After the defined number of receives the message is in the dead-letter queue only."""
    sqs = clients.client("sqs")
    url = variables["MLPIPE_DONE_QUEUE_URL"]
    dead_url = sqs.get_queue_url(QueueName=DEPLOYMENT.dead_letter_queue)["QueueUrl"]
    drain(sqs, url)
    drain(sqs, dead_url)
    body = uuid.uuid4().hex
    sqs.send_message(QueueUrl=url, MessageBody=body)
    receives = 0
    # The last receive is beyond the limit: it returns nothing and moves the message.
    for _ in range(resource_definitions.done_file_queue(DEPLOYMENT).max_receives + 1):
        answer = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0, WaitTimeSeconds=1)
        receives += len(answer.get("Messages", []))

    assert receives == resource_definitions.done_file_queue(DEPLOYMENT).max_receives
    assert [message["Body"] for message in receive(sqs, dead_url)] == [body]
    assert receive(sqs, url, wait_seconds=1) == []


@pytest.fixture
def environment_file(local_servers: LocalServers, variables: dict[str, str], tmp_path: Path) -> Path:
    """Give a `.env` as `mlpipe up` writes it."""
    file = tmp_path / ".env"
    write_environment_file(file, {**variables, "AWS_ENDPOINT_URL": local_servers.aws, "AWS_REGION": REGION})
    return file


def test_token_has_read_scope_and_valid_signature(
    environment_file: Path, variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed token is signed by the pool, belongs to the client and is valid for an hour."""
    assert access_token.main(["--env-file", str(environment_file)]) == 0
    token = capsys.readouterr().out.strip()

    key = jwt.PyJWKClient(variables["MLPIPE_JWKS_URL"], timeout=30).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], issuer=variables["MLPIPE_TOKEN_ISSUER"])
    assert claims["scope"] == DEPLOYMENT.read_scope == "mlpipe-local-api/predictions:read"
    assert claims["client_id"] == variables["MLPIPE_TOKEN_CLIENT_ID"]
    assert claims["exp"] - claims["iat"] == 3600


def test_changed_token_client_is_repaired(
    local_servers: LocalServers, clients: Clients, environment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client changed by hand gets no token and a hint; provisioning repairs it and keeps its id."""
    cognito = clients.client("cognito-idp")
    before = provision_on(local_servers)
    pool_id = before["MLPIPE_TOKEN_ISSUER"].rsplit("/", 1)[1]
    cognito.update_user_pool_client(
        UserPoolId=pool_id,
        ClientId=before["MLPIPE_TOKEN_CLIENT_ID"],
        ClientName=DEPLOYMENT.token_client,
        AllowedOAuthFlowsUserPoolClient=False,
        AllowedOAuthFlows=[],
        AllowedOAuthScopes=[],
    )
    assert access_token.main(["--env-file", str(environment_file)]) == 1
    refused = capsys.readouterr()

    after = provision_on(local_servers)

    assert refused.out == ""
    assert "mlpipe up" in refused.err
    assert after["MLPIPE_TOKEN_CLIENT_ID"] == before["MLPIPE_TOKEN_CLIENT_ID"]
    assert access_token.main(["--env-file", str(environment_file)]) == 0


def test_token_command_without_environment_file_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first `mlpipe up` the command prints no token and names the command to run."""
    assert access_token.main(["--env-file", str(tmp_path / ".env")]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "mlpipe up" in captured.err


def test_token_command_with_stack_down_says_what_to_do(
    environment_file: Path, variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable stack is reported with the command that starts it."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": REGION}
    write_environment_file(environment_file, {**variables, **nowhere})

    assert access_token.main(["--env-file", str(environment_file)]) == 1
    assert "mlpipe up" in capsys.readouterr().err


def test_snowflake_secret_opens_the_database(clients: Clients, variables: dict[str, str]) -> None:
    """A job that reads the secret and a shell that reads `.env` use the same connection."""
    secrets = clients.client("secretsmanager")
    stored = secrets.get_secret_value(SecretId=DEPLOYMENT.snowflake_secret)["SecretString"]
    connection = json.loads(stored)

    with snowflake.connector.connect(**connection) as session, session.cursor() as cursor:
        cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
        row = cursor.fetchone()

    assert row == (DEPLOYMENT.snowflake_database, DEPLOYMENT.snowflake_schema)
    for name, value in connection.items():
        assert variables[f"SNOWFLAKE_{name.upper()}"] == str(value)
