"""The whole path with permissions checked: every part under its own role, with nothing it does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.live_api import LiveApi
from infra.permissions import role_definitions
from infra.permissions.source_rights import source_statements
from infra.provisioned_models import provisioned_models
from tests.end_to_end.development_stack import PREPARED, RUN_SECONDS
from tests.end_to_end.enforced_stack import EnforcedStack, enforced_stack
from tests.projects import EXAMPLE
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.permissions.policy_statements import RoleDefinition
    from prediction_contract.naming.resource_names import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(1500)]
MODEL, ENTITY = "flight_delay", "AA-1141-JFK"
DAYS = ("2013-02-01", "2013-02-02")


def sagemaker_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of SageMaker's jobs with the sources of the example's models."""
    inputs = [model.inputs for model in provisioned_models(EXAMPLE)]
    return role_definitions.sagemaker_role(deployment, source_statements(deployment, inputs))


ROLES = {
    "glue": role_definitions.glue_load_role,
    "sagemaker": sagemaker_role,
    "api": role_definitions.api_role,
    "run": role_definitions.dagster_run_role,
    "daemon": role_definitions.dagster_daemon_role,
}

# What no run on the emulator uses.
EVERYWHERE = {
    **dict.fromkeys(("kms:Decrypt", "kms:GenerateDataKey"), "S3 asks KMS in the caller's name; not here"),
    **dict.fromkeys(
        ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
        "AWS writes logs under the role; emulator and executor do so by themselves",
    ),
    "iam:PassRole": "checked by AWS only; see tests of the templates",
    "s3:AbortMultipartUpload": "an upload in parts that fails is given up",
}
OTHERWISE: dict[str, dict[str, str]] = {
    "glue": {
        "cloudwatch:PutMetricData": "Glue's own metrics of a job",
        "dynamodb:Query": "a registry change reads several records of a model",
        "dynamodb:Scan": "`verify: scan` looks for items that nobody wrote",
        "s3:GetBucketLocation": "Glue asks where the bucket of the wheels is; the executor does not",
    },
    "sagemaker": {
        "cloudwatch:PutMetricData": "SageMaker's own metrics of a job",
        "dynamodb:Query": "the previous batch is looked up among several of a partition",
        **dict.fromkeys(
            (
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            ),
            "SageMaker pulls the image under the role; the executor runs the scripts without one",
        ),
    },
    "api": {
        "dynamodb:BatchGetItem": "`predictions:batchGet`",
        "dynamodb:ListTables": "`GET /v1/models`",
        "dynamodb:Query": "an entity's history",
        "secretsmanager:GetSecretValue": "providers that want a secret; the weather of the demo wants none",
        **dict.fromkeys(("xray:PutTraceSegments", "xray:PutTelemetryRecords"), "Lambda writes its traces"),
    },
    "run": {
        "glue:BatchStopJobRun": "a cancelled run stops its load",
        "logs:GetLogEvents": "a failed job's log is shown in the run",
        "s3:DeleteObject": "retired batches leave",
        "sagemaker:AddTags": "AWS wants it for a job that is created with tags",
        "sagemaker:StopProcessingJob": "a cancelled run stops its job",
        "sagemaker:StopTrainingJob": "a cancelled run stops its job",
        **dict.fromkeys(
            (
                "sagemaker:StartPipelineExecution",
                "sagemaker:DescribePipelineExecution",
                "sagemaker:ListPipelineExecutions",
                "sagemaker:ListPipelineExecutionSteps",
                "sagemaker:StopPipelineExecution",
                "sagemaker:RetryPipelineExecution",
                "sagemaker:ListModelPackages",
                "sagemaker:DescribeModelPackage",
            ),
            "a run starts, follows and stops a retraining, and reads the version that it registered",
        ),
        "secretsmanager:GetSecretValue": "the canary asks the API as a client",
    },
    "daemon": {
        "dynamodb:Query": "sensors look through a model's batches",
        **dict.fromkeys(
            ("dynamodb:ConditionCheckItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
            "the sensor records a batch that no run has recorded yet",
        ),
        "ec2:DescribeNetworkInterfaces": "a run's task takes over the daemon's network",
        **dict.fromkeys(
            (
                "ecs:DescribeTaskDefinition",
                "ecs:DescribeTasks",
                "ecs:RunTask",
                "ecs:StopTask",
                "ecs:TagResource",
            ),
            "runs are ECS tasks on AWS, and processes here",
        ),
        **dict.fromkeys(
            (
                "sagemaker:StartPipelineExecution",
                "sagemaker:DescribePipelineExecution",
                "sagemaker:ListPipelineExecutions",
                "sagemaker:ListModelPackages",
                "sagemaker:DescribeModelPackage",
            ),
            "drift starts a retraining, and a listing finds the versions that no event told of",
        ),
        "logs:GetLogEvents": "why a run's task ended before it said so; a process here",
        "s3:PutObject": "what a tick says is kept with the runs' logs, which lie in a folder here",
        "sqs:DeleteMessage": "a message is deleted when it comes again, minutes after its run is recorded",
    },
}

# One call beyond each role's resources: the service, the call, its arguments.
BEYOND: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "glue": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "done/x", "Body": b""}),
        ("s3", "delete_object", {"Bucket": "{bucket}", "Key": "predictions/x"}),
        ("dynamodb", "get_item", {"TableName": "mlpipe-other-registry", "Key": {"pk": {"S": "x"}}}),
    ],
    "sagemaker": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "reports/x", "Body": b""}),
        # Beside the beginnings that the example's sources declare.
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "raw/undeclared/x"}),
        ("s3", "list_objects_v2", {"Bucket": "{bucket}", "Prefix": "raw/undeclared/"}),
        ("dynamodb", "put_item", {"TableName": "{registry}", "Item": {"pk": {"S": "x"}, "sk": {"S": "x"}}}),
    ],
    "api": [
        ("dynamodb", "put_item", {"TableName": "{table}", "Item": {"entity_id": {"S": "x"}}}),
        ("dynamodb", "get_item", {"TableName": "other-table", "Key": {"entity_id": {"S": "x"}}}),
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "done/x"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "{snowflake}"}),
    ],
    "run": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "done/x", "Body": b""}),
        ("dynamodb", "delete_item", {"TableName": "{table}", "Key": {"entity_id": {"S": "x"}}}),
        ("sqs", "receive_message", {"QueueUrl": "{queue}"}),
    ],
    "daemon": [
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "predictions/x"}),
        ("dynamodb", "get_item", {"TableName": "{table}", "Key": {"entity_id": {"S": "x"}}}),
        ("sqs", "send_message", {"QueueUrl": "{queue}", "MessageBody": "{}"}),
    ],
}


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnforcedStack]:
    """A stack of these tests' own."""
    with enforced_stack(tmp_path_factory.mktemp("enforced")) as running:
        yield running


@pytest.fixture(scope="module")
def live(enforced: EnforcedStack) -> str:
    """The second of two batches that went the whole way, from raw flights to the API."""
    platform = enforced.platform
    run_id = platform.dagster.launch_assets(
        [f"{MODEL}/features", f"{MODEL}/trained_model"], first=PREPARED[0], last=PREPARED[1]
    )
    platform.dagster.await_run(run_id, seconds=RUN_SECONDS, what="Training")
    batch_id = ""
    for day in DAYS:
        batch_id = platform.score(MODEL, day)
        wait_until(
            lambda batch=batch_id: platform.is_live(MODEL, batch),
            seconds=RUN_SECONDS,
            what=f"{batch_id} live",
        )
    return batch_id


@pytest.fixture(scope="module")
def asked(live: str, enforced: EnforcedStack) -> dict[str, int]:
    """The API's answers' status by route, one request each."""
    token = obtain_token(read_variables(enforced.platform.environment_file))
    api = LiveApi(enforced.platform.variables["MLPIPE_API_URL"].rstrip("/"), MODEL, token)
    answer = api.ask(ENTITY)
    assert answer.batch_id == live
    assert answer.document["enrichment"]["weather"]["status"] == "ok"
    return {"prediction": answer.status, "history": api.ask(f"{ENTITY}/history").status}


def test_the_whole_path_works_under_roles(asked: dict[str, int]) -> None:
    """Training, scoring, sensor, load, checks, publication and serving need no right that a role lacks."""
    assert asked["prediction"] == 200


@pytest.mark.parametrize(
    ("role", "key", "code"),
    [
        ("sagemaker_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("glue_load_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("dagster_run_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("dagster_daemon_role", "models/none/accuracy/none.json", "NoSuchKey"),
        ("dagster_webserver_role", "compute-logs/none", "AccessDenied"),
    ],
)
def test_a_missing_object_is_told_to_who_looks_for_some(
    role: str, key: str, code: str, enforced: EnforcedStack
) -> None:
    """S3 denies it to everybody else: deltalake takes that for a fault, and opens no young table."""
    client = enforced.client("s3", getattr(enforced.deployment, role))
    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket=enforced.deployment.data_bucket, Key=key)
    assert refused.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("part", ROLES)
def test_what_the_run_did_not_use_is_granted_for_a_reason(
    part: str, asked: dict[str, int], enforced: EnforcedStack
) -> None:
    """Every right was used on the way, or it is written down what else needs it."""
    assert asked
    role = ROLES[part](enforced.deployment)
    granted = {action for statement in role.statements for action in statement["Action"]}
    reasons = {**EVERYWHERE, **OTHERWISE[part]}
    assert granted - enforced.used(role) - set(reasons) == set()
    assert set(OTHERWISE[part]) <= granted, "a reason for what is not granted"


def test_what_the_executor_was_asked_is_granted(asked: dict[str, int], enforced: EnforcedStack) -> None:
    """The executor checks no permission; the emulator's simulator does, for each call on the job it named."""
    assert asked
    deployment = enforced.deployment
    kinds = {"Processing": "processing-job", "Training": "training-job"}
    calls = enforced.executor_calls()
    assert {action for _, action, _ in calls} >= {"glue:StartJobRun", "sagemaker:CreateProcessingJob"}
    for role, action, job in calls:
        kind = next((found for name, found in kinds.items() if name in action), "job")
        service = action.partition(":")[0]
        arn = f"arn:aws:{service}:{deployment.region}:{deployment.account_id}:{kind}/{job}"
        assert enforced.simulate(role, action, arn) == "allowed"
    glue = f"arn:aws:glue:{deployment.region}:{deployment.account_id}:job/somebody-elses"
    assert enforced.simulate(deployment.dagster_run_role, "glue:StartJobRun", glue) == "implicitDeny"
    assert (
        enforced.simulate(deployment.dagster_daemon_role, "glue:StartJobRun", deployment.load_job_arn)
        != "allowed"
    )


@pytest.mark.parametrize(
    ("part", "service", "call", "arguments"),
    [pytest.param(part, *each, id=f"{part}-{each[1]}") for part, calls in BEYOND.items() for each in calls],
)
def test_a_call_beyond_a_role_is_denied(
    part: str, service: str, call: str, arguments: dict[str, Any], enforced: EnforcedStack
) -> None:
    """Other tables, other prefixes, other verbs: AWS says no, whatever the code would do."""
    role: RoleDefinition = ROLES[part](enforced.deployment)
    names = {
        "{bucket}": enforced.deployment.data_bucket,
        "{registry}": enforced.deployment.registry_table,
        "{table}": enforced.deployment.online_table(MODEL),
        "{queue}": enforced.platform.variables["MLPIPE_DONE_QUEUE_URL"],
        "{snowflake}": enforced.deployment.snowflake_secret,
    }
    filled = {
        name: names.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    with pytest.raises(ClientError) as refused:
        getattr(enforced.client(service, role.name), call)(**filled)
    assert refused.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
